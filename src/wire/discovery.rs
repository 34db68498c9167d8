//! The documents that clients and resources read: OpenID configuration and our JWKS (reference:
//! entra-token-service.md sections 3.1 and 3.2).

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use openidconnect::core::{
    CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, AuthDisplay, AuthUrl, IssuerUrl, JsonWebKeySetUrl, ProviderMetadata,
    ResponseTypes, Scope, TokenUrl,
};
use serde::{Deserialize, Serialize};

use super::response::{Ids, Wire};
use super::rfc8693;
use crate::domain::directory::Directory;
use crate::domain::refusal::Refusal;
use crate::domain::tenant::Tenant;
use crate::signing::Keys;

/// Discovery documents may be kept for a day, as Entra's.
const DOCUMENT_MAX_AGE: u64 = 86_400;

/// Members that Entra adds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Additions {
    http_logout_supported: bool,
    frontchannel_logout_supported: bool,
    cloud_instance_name: String,
    tenant_region_scope: Option<String>,
}

impl AdditionalProviderMetadata for Additions {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct NoDisplay;

impl AuthDisplay for NoDisplay {}

impl AsRef<str> for NoDisplay {
    fn as_ref(&self) -> &str {
        "page"
    }
}

type Metadata = ProviderMetadata<
    Additions,
    NoDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// Of a document: v1.0 and v2.0 have issuers of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `/{tenant}/.well-known/openid-configuration`.
    V1,
    /// `/{tenant}/v2.0/.well-known/openid-configuration`.
    V2,
}

impl Version {
    /// What it adds to a path.
    fn segment(self) -> &'static str {
        match self {
            Self::V1 => "",
            Self::V2 => "/v2.0",
        }
    }
}

/// Whose document is asked for.
enum Owner<'d> {
    Tenant(&'d Tenant),
    /// `common` and `organizations`, whose documents name the issuer by a template.
    Shared(&'static str),
}

fn owner<'d>(directory: &'d Directory, name: &str) -> Result<Owner<'d>, Refusal> {
    for shared in ["common", "organizations"] {
        if name.eq_ignore_ascii_case(shared) {
            return Ok(Owner::Shared(shared));
        }
    }
    directory.tenant(name).map(Owner::Tenant)
}

impl Owner<'_> {
    /// The path segment in our URLs: always the GUID, however the tenant was asked for.
    fn segment(&self) -> String {
        match self {
            Self::Tenant(tenant) => tenant.id.to_string(),
            Self::Shared(name) => (*name).to_owned(),
        }
    }

    fn issuer(&self, wire: &Wire, version: Version) -> String {
        match (self, version) {
            (Self::Tenant(tenant), Version::V1) => tenant.issuer_v1.to_string(),
            (Self::Tenant(tenant), Version::V2) => tenant.issuer_v2.to_string(),
            (Self::Shared(_), Version::V1) => format!("{}/{{tenantid}}/", wire.public_url),
            (Self::Shared(_), Version::V2) => format!("{}/{{tenantid}}/v2.0", wire.public_url),
        }
    }
}

/// The OpenID configuration of a tenant, which is its RFC 8414 metadata, too.
pub fn configuration(
    wire: &Wire,
    directory: &Directory,
    (version, tenant): (Version, &str),
    ids: &Ids,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let owner = owner(directory, tenant)?;
    let metadata = metadata(wire, &owner, version).map_err(|_| Refusal::Path)?;
    Ok(wire.document(&metadata, DOCUMENT_MAX_AGE, ids))
}

/// Our keys; those of v2.0 name the tenant's issuer.
pub fn keys(
    wire: &Wire,
    directory: &Directory,
    (version, tenant): (Version, &str),
    keys: &Keys,
) -> Result<serde_json::Value, Refusal> {
    let owner = owner(directory, tenant)?;
    let issuer = (version == Version::V2).then(|| owner.issuer(wire, version));
    Ok(keys.jwks(issuer.as_deref(), wire.clock.now()))
}

fn metadata(
    wire: &Wire,
    owner: &Owner<'_>,
    version: Version,
) -> Result<Metadata, openidconnect::url::ParseError> {
    let v = version.segment();
    let base = format!("{}/{}", wire.public_url, owner.segment());
    let keys_base = match owner {
        Owner::Tenant(_) => base.clone(),
        Owner::Shared(_) => format!("{}/common", wire.public_url),
    };
    let response_types = [
        vec![CoreResponseType::Code],
        vec![CoreResponseType::IdToken],
        vec![CoreResponseType::Code, CoreResponseType::IdToken],
        vec![CoreResponseType::IdToken, CoreResponseType::Token],
    ];
    let additions = Additions {
        http_logout_supported: false,
        frontchannel_logout_supported: false,
        cloud_instance_name: host(&wire.public_url).to_owned(),
        tenant_region_scope: None,
    };
    let (mut methods, mut grants) =
        (vec![CoreClientAuthMethod::PrivateKeyJwt], vec![CoreGrantType::ClientCredentials]);
    if version == Version::V2 {
        // Token exchange, whose clients say who they are and prove nothing but the subject token.
        methods.push(CoreClientAuthMethod::None);
        grants.push(CoreGrantType::Extension(rfc8693::GRANT.to_owned()));
    }
    let metadata = Metadata::new(
        IssuerUrl::new(owner.issuer(wire, version))?,
        // Never served, but MSAL refuses a document without it.
        AuthUrl::new(format!("{base}/oauth2{v}/authorize"))?,
        JsonWebKeySetUrl::new(format!("{keys_base}/discovery{v}/keys"))?,
        response_types.map(ResponseTypes::new).to_vec(),
        vec![CoreSubjectIdentifierType::Pairwise],
        vec![CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256, CoreJwsSigningAlgorithm::EcdsaP256Sha256],
        additions,
    );
    Ok(metadata
        .set_token_endpoint(Some(TokenUrl::new(format!("{base}/oauth2{v}/token"))?))
        .set_token_endpoint_auth_methods_supported(Some(methods))
        .set_grant_types_supported(Some(grants))
        .set_scopes_supported(Some(vec![Scope::new("openid".to_owned())]))
        .set_request_uri_parameter_supported(Some(false))
        .set_claims_supported(Some(
            claims(version).into_iter().map(|name| CoreClaimName::new(name.to_owned())).collect(),
        )))
}

/// What tokens of a version say.
fn claims(version: Version) -> Vec<&'static str> {
    let client: &[_] = match version {
        Version::V1 => &["appid", "appidacr", "idp"],
        Version::V2 => &["azp", "azpacr"],
    };
    [&["aud", "iss", "iat", "nbf", "exp"], client, &["idtyp", "oid", "roles", "sub", "tid", "uti", "ver"]]
        .concat()
}

/// Host and port of an authority.
pub(super) fn host(public_url: &str) -> &str {
    public_url.split_once("://").map_or(public_url, |(_, host)| host)
}
