//! Every cause that is known by name: a closed set, with what to do about each.
//!
//! The ids are those of the project's catalogue of near misses; metrics, the audit record and `ficus explain` use them.

/// What cures a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The nearest credential has a mistake: it takes over what was presented.
    Change,
    /// The nearest credential is right for something else: another one is needed beside it.
    Add,
    /// No record helps, or none should be written before somebody has looked.
    Look,
}

macro_rules! causes {
    ($($name:ident $id:literal $remedy:ident $hint:literal)*) => {
        /// Why a token fits nothing. What each means is its [`Cause::hint`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is explained by its hint")]
        pub enum Cause { $($name),* }

        impl Cause {
            /// All of them.
            pub const ALL: [Self; [$($id),*].len()] = [$(Self::$name),*];

            /// The catalogue's name, such as `S-GH-ENV`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }

            /// What it means and what to do, without any presented or configured value.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint),* }
            }

            /// What cures it.
            pub fn remedy(self) -> Remedy {
                match self { $(Self::$name => Remedy::$remedy),* }
            }
        }
    };
}

causes! {
    // ---- Issuer ----
    IWs "I-WS" Change "white space around the issuer: take it off"
    ISlashExtra "I-SLASH-EXTRA" Change "the presented issuer has no slash at its end, the configured one has"
    ISlashMissing "I-SLASH-MISSING" Change "the presented issuer ends in a slash, the configured one does not: AKS and Azure AD v1.0 have one"
    ICase "I-CASE" Change "issuers are compared with their case: hosts are lower case, an EKS cluster's id is upper case"
    IPct "I-PCT" Change "one of the two issuers is percent-encoded"
    IScheme "I-SCHEME" Change "an issuer is a whole https URL; GitLab's CI_JOB_JWT, which has no scheme, is gone: use id_tokens"
    ILookalike "I-LOOKALIKE" Look "the issuers look the same and are not: there is a foreign letter or an invisible character in one of them"
    ITypo "I-TYPO" Look "the issuers differ by a few characters: one is misspelled, or somebody poses as the other"
    IWellKnown "I-WELLKNOWN" Change "configured is the address of a document or of keys: write the issuer itself"
    IGhSlug "I-GH-SLUG" Change "the enterprise's setting for a slug in GitHub's issuer was switched on or off: configure the presented one"
    IGhGhes "I-GH-GHES" Look "github.com, GHE.com and each GitHub Enterprise Server have issuers of their own: configure the presented one if that server is yours"
    IGitlabHost "I-GITLAB-HOST" Look "the issuer is the GitLab instance's own URL, gitlab.com only on gitlab.com: configure the presented one if that instance is yours"
    IK8sLocal "I-K8S-LOCAL" Look "the cluster issues tokens under an internal name: set --service-account-issuer (managed clusters: switch the OIDC issuer on) and recreate the pods"
    IClusterNew "I-CLUSTER-NEW" Look "another cluster of the same place: a rebuilt one has a new issuer; configure it if that cluster is yours"
    IAksOld "I-AKS-OLD" Look "AKS has changed the form of its issuers: read it from the cluster (az aks show --query oidcIssuerProfile.issuerUrl)"
    IAdoOld "I-ADO-OLD" Look "app.vstoken.visualstudio.com issues System.AccessToken, which nobody can verify: request an OIDC token for the service connection"
    IAdoNew "I-ADO-NEW" Look "the Azure DevOps service connection uses the other of its two issuers: copy issuer and subject from the connection's page"
    IV1V2 "I-V1V2" Change "v1.0 and v2.0 tokens of one Entra tenant have different issuers"
    IVercel "I-VERCEL" Change "the Vercel project's issuer mode differs: global or of the team"
    IGkeLoc "I-GKE-LOC" Change "the same GKE cluster by another location: the issuer has the exact zone or region"
    ISpire "I-SPIRE" Look "the SPIRE provider derives its issuer from the host that it is asked by: set jwt_issuer"
    IUnreach "I-UNREACH" Look "the issuer's keys can't be had: both its discovery document and its key set must be reachable from here, and for Kubernetes readable"
    IDocMismatch "I-DOCMISMATCH" Look "the issuer's own discovery document names another issuer: they are compared with every slash and every letter's case"
    IOther "I-OTHER" Add "no credential of this identity names this issuer or one that is like it"
    // ---- Subject: any platform ----
    SCase "S-CASE" Change "subjects are compared with their case: write it as the token has it"
    SWs "S-WS" Change "white space around the subject: take it off"
    SSlash "S-SLASH" Change "the subjects differ by a slash at the end"
    SPct "S-PCT" Change "one of the two subjects is percent-encoded; GitHub writes a colon in a name as %3A, and so must the credential"
    SScheme "S-SCHEME" Change "the subjects differ by their scheme alone"
    SLookalike "S-LOOKALIKE" Look "the subjects look the same and are not: there is a foreign letter or an invisible character in one of them; somebody may be posing as the other"
    STypo "S-TYPO" Change "the subjects differ by a few characters"
    SStar "S-STAR" Change "there are no wildcards: '*' is compared like any other character; a credential has one whole subject"
    SIsObj "S-ISOBJ" Change "configured is the identity's own client id: a credential has the external workload's subject"
    SOther "S-OTHER" Add "no credential of this identity has this subject or one that is like it"
    // ---- Subject: GitHub ----
    SGhEnv "S-GH-ENV" Add "the job names an environment, which takes the place of branch, tag and event in the subject"
    SGhNoEnv "S-GH-NOENV" Add "the job names no environment (this job, or only the caller of a reusable workflow does): add environment to the job, or a credential for what it presents"
    SGhEnvName "S-GH-ENVNAME" Add "the environment is another one"
    SGhPr "S-GH-PR" Look "runs for pull requests have a subject of their own, whoever opened the request: think before you trust them"
    SGhNoPr "S-GH-NOPR" Add "the credential is for pull requests, and the run was started by something else"
    SGhPrTypo "S-GH-PRTYPO" Change "the spelling is pull_request, with an underscore"
    SGhRefKind "S-GH-REFKIND" Add "the run was started by a tag where the credential has a branch, or the other way about"
    SGhRefShort "S-GH-REFSHORT" Change "GitHub's subjects have the whole ref: ref:refs/heads/NAME or ref:refs/tags/NAME"
    SGhBranch "S-GH-BRANCH" Add "the branch or tag is another one"
    SGhEnvSep "S-GH-ENVSEP" Change "a colon comes between environment and its name"
    SGhUrl "S-GH-URL" Change "the repository is written repo:OWNER/NAME, without https://, git@ and .git"
    SGhImmut "S-GH-IMMUT" Change "the repository sends immutable subjects, with the ids of owner and repository: copy it with the ids"
    SGhClassic "S-GH-CLASSIC" Change "the repository sends classic subjects, without ids: take the ids out, or opt in to immutable subjects"
    SGhIdDiff "S-GH-IDDIFF" Look "the names are the same and the ids are not: the repository was deleted and made again, or somebody else took the name; find out who owns it before you change anything"
    SGhRename "S-GH-RENAME" Change "the ids are the same and the names are not: owner or repository was renamed"
    SGhRepo "S-GH-REPO" Add "another repository of the same owner"
    SGhOwner "S-GH-OWNER" Look "a repository of the same name of another owner: a fork, or a transfer; find out whose it is"
    SGhCustom "S-GH-CUSTOM" Add "organisation or repository customises the subject: build the credential from what is presented"
    SGhReuse "S-GH-REUSE" Add "configured is the repository of the reusable workflow; the subject is the caller's repository"
    SGhMq "S-GH-MQ" Look "a merge queue runs on a branch whose name changes every time: give the job an environment and use that"
    SGhStar "S-GH-STAR" Change "there are no wildcards: '*' is compared like any other character; a credential has one whole subject"
    // ---- Subject: GitLab ----
    SGlRef "S-GL-REF" Change "GitLab's subjects have the short name of the ref (ref:main); its kind is in ref_type"
    SGlType "S-GL-TYPE" Add "a tag where the credential has a branch, or the other way about"
    SGlBranch "S-GL-BRANCH" Add "the branch or tag is another one"
    SGlPath "S-GL-PATH" Add "the project's path is another one: a subgroup is missing, the project has moved, or a fork's merge request runs, whose path is the fork's"
    SGlProt "S-GL-PROT" Change "the subjects are made of different components: the project customises them (ci_id_token_sub_claim_components), or does no more"
    SGlOld "S-GL-OLD" Look "that is a token of the old CI_JOB_JWT: use id_tokens"
    // ---- Subject: Kubernetes ----
    SK8sNs "S-K8S-NS" Add "the namespace is another one"
    SK8sSa "S-K8S-SA" Add "the service account is another one"
    SK8sDefault "S-K8S-DEFAULT" Look "the pod runs as service account default: set serviceAccountName"
    SK8sFmt "S-K8S-FMT" Change "the form is system:serviceaccount:NAMESPACE:NAME"
    // ---- Subject: other platforms ----
    SGoogEmail "S-GOOG-EMAIL" Change "Google's subject is the service account's numeric unique id, not its e-mail address"
    STfcPhase "S-TFC-PHASE" Add "plan and apply have different subjects: one credential for each"
    STfcProj "S-TFC-PROJ" Add "the subject has the project's name, with its spaces as they are"
    SAdoName "S-ADO-NAME" Add "organisation, project or service connection has another name: it was renamed, or misspelled"
    SAdoEid "S-ADO-EID" Look "copy the subject from the service connection's page, letter by letter"
    SVolatile "S-VOLATILE" Look "this platform's standard subject is new for every run and can't be configured: make it issue a stable one, such as Buildkite's --subject-claim pipeline_id"
    SCircleUser "S-CIRCLE-USER" Add "CircleCI's subject has the user who started the pipeline"
    SCircleV2 "S-CIRCLE-V2" Change "CIRCLE_OIDC_TOKEN and CIRCLE_OIDC_TOKEN_V2 have different subjects"
    SSpiffe "S-SPIFFE" Change "a SPIFFE id is compared with the case of its path and has no slash at its end"
    // ---- Audience ----
    ADefaultGh "A-DEFAULT-GH" Look "the workflow asked for no audience: append &audience= to the request's URL"
    ADefaultK8s "A-DEFAULT-K8S" Look "that is the token for the API server: mount a projected token with this audience"
    ADefaultIrsa "A-DEFAULT-IRSA" Look "that is the token for AWS: mount a projected token of its own with this audience"
    ADefaultOther "A-DEFAULT-OTHER" Look "that is the platform's standard audience: have the job ask for this one"
    ATypo "A-TYPO" Change "the audiences differ by a few characters"
    ACloud "A-CLOUD" Change "the audience is another cloud's"
    AAksBind "A-AKSBIND" Look "that is the token for AKS identity bindings: use the one at AZURE_FEDERATED_TOKEN_FILE"
    ACase "A-CASE" Change "audiences are compared with their case"
    AMulti "A-MULTI" Look "the token has several audiences, and none of them is configured"
    ASeveral "A-SEVERAL" Look "the right audience is one of several: ask for it alone, or set multiple_audiences on the issuer's entry"
    AEncoded "A-ENCODED" Look "the audience is percent-encoded once too often: the script encodes what is encoded already"
    ALookalike "A-LOOKALIKE" Look "the audiences look the same and are not: there is a foreign letter or an invisible character in one of them"
    AOther "A-OTHER" Look "the audience is another one: have the job ask for the configured one, or configure the presented one"
    // ---- Token, time, key, client ----
    TWrongToken "T-WRONGTOKEN" Look "that is the runner's own token: send the member value of the reply to the request made with it"
    TExpired "T-EXPIRED" Look "the token has expired: request it right before it is used; some live for five minutes"
    TFuture "T-FUTURE" Look "the token is not valid yet: the clock of its issuer or of this broker is wrong"
    TLong "T-LONG" Look "the token lives longer than is accepted: use a projected token, or raise max_token_lifetime"
    TKid "T-KID" Look "the issuer publishes no such key: it was rotated out, a jwks_file is out of date, or the token is another instance's"
    TSig "T-SIG" Look "the signature does not fit the key of this id: the token was changed on its way, or the issuer made a new key under an old id"
    TAlg "T-ALG" Look "the issuer signs with an algorithm that is not accepted from it: set algorithms on its entry"
    TFormat "T-FORMAT" Look "what was sent is no plain JWT: look for quotes, `Bearer `, a cut end, or JSON around the token"
    TNoFic "T-NOFIC" Add "the identity has no enabled credential"
    TWrongClient "T-WRONGCLIENT" Look "this token is for another identity: the client id is wrong, or it is an object id"
    TDup "T-DUP" Look "a credential that fits was there within the last day, and was removed or overwritten: where that was not meant, look who else writes the records"
    COff "C-OFF" Look "the credential that fits is disabled"
    COffIssuer "C-OFF-ISSUER" Look "the credential that fits names an issuer that is disabled"
    CObserved "C-OBSERVED" Look "the credential that fits is in observe mode and grants nothing: take mode = observe away when it is meant to count"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_record_is_proposed_for_what_may_be_somebody_elses() {
        for cause in [
            Cause::ILookalike,
            Cause::ITypo,
            Cause::IGhGhes,
            Cause::IGitlabHost,
            Cause::IClusterNew,
            Cause::IAksOld,
            Cause::IAdoNew,
            Cause::SLookalike,
            Cause::SGhIdDiff,
            Cause::SGhOwner,
            Cause::SGhPr,
            Cause::TWrongClient,
        ] {
            assert_eq!(cause.remedy(), Remedy::Look, "{cause:?}");
        }
    }

    #[test]
    fn ids_are_unique_and_hints_are_one_line() {
        let ids: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.id()).collect();
        assert_eq!(ids.len(), Cause::ALL.len());
        for cause in Cause::ALL {
            let (id, hint) = (cause.id(), cause.hint());
            assert!(id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-'), "{id}");
            assert!(hint.is_ascii() && !hint.contains('\n') && !hint.ends_with('.'), "{id}: {hint}");
        }
    }
}
