//! How often credentials were used, by the audit log. What is kept is as large as the directory, however long the log is.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::Failure;
use super::super::output::plain;
use super::super::records::{self, Source};
use crate::audit::reading::{Entry, Line, Reading};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::domain::directory::Directory;
use crate::domain::ids::Guid;

/// What a credential did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    pub(super) grants: u64,
    /// Refusals that it would have matched in observe mode.
    pub(super) matches: u64,
}

/// What the log says of the directory's credentials.
#[derive(Default)]
pub(super) struct Uses<'d> {
    /// By tenant and principal, and by name.
    counts: HashMap<(Guid, Guid), HashMap<&'d str, Use>>,
    /// The first record and the last.
    span: Option<(UnixTime, UnixTime)>,
    /// Whether refusals were summed up: whose tenant they were, and so which credential's, is not recorded then.
    sums: bool,
}

/// The uses, or why they can't be told.
pub(super) type Told<'d> = Result<Uses<'d>, String>;

/// Reads the files that were named, which must be there, else the configuration's log, which need not.
pub(super) fn read<'d>(
    files: &[PathBuf],
    since: Option<UnixTime>,
    (config, directory): (&Config, &'d Directory),
) -> Result<Told<'d>, Failure> {
    match Uses::read(files, since, (config, directory)) {
        Ok(Uses { span: None, .. }) => {
            let from = since.map(|since| format!(" since {}", time(since))).unwrap_or_default();
            Ok(Err(format!("the audit log has no record{from}")))
        }
        Ok(uses) => Ok(Ok(uses)),
        Err(Failure::Line(why)) if files.is_empty() => Ok(Err(why)),
        Err(failure) => Err(failure),
    }
}

impl<'d> Uses<'d> {
    fn read(
        files: &[PathBuf],
        since: Option<UnixTime>,
        (config, directory): (&Config, &'d Directory),
    ) -> Result<Self, Failure> {
        let mut uses = Self::default();
        for tenant in directory.tenants() {
            for identity in tenant.identities() {
                let names = identity.credentials.iter().map(|one| (one.name.as_str(), Use::default()));
                uses.counts.insert((tenant.id, identity.principal_id), names.collect());
            }
        }
        let mut sources = records::sources(files, Some(config))?;
        sources.iter().try_for_each(Source::demanded)?;
        let all: usize = sources.iter().map(|source| source.names().len()).sum();
        sources.iter_mut().for_each(|source| source.begin(since));
        let left: usize = sources.iter().map(|source| source.names().len()).sum();
        let mut older = left < all;
        let mut visit = |line: &Line<'_>| {
            match since {
                Some(since) if line.entry.at() < since => older = true,
                _ => uses.add(&line.entry),
            }
            ControlFlow::Continue(())
        };
        let mut reading = Reading::new(&mut visit);
        for source in &mut sources {
            let _ = source.read(&mut reading)?;
            let _ = reading.end();
        }
        records::tell_broken(&reading);
        if let (Some(since), Some((first, _)), true) = (since, &mut uses.span, older) {
            *first = since;
        }
        Ok(uses)
    }

    fn add(&mut self, entry: &Entry) {
        let at = entry.at();
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
        self.sums |= entry.is_sum();
        let name = match entry.granted() {
            true => &entry.federated_credential_name,
            false => &entry.observed.federated_credential_name,
        };
        let id = |text: &Option<String>| Guid::parse(text.as_deref()?);
        let key = id(&entry.tenant_id).zip(id(&entry.service_principal_id));
        let names = key.and_then(|key| self.counts.get_mut(&key)).zip(name.as_deref());
        if let Some(count) = names.and_then(|(names, name)| names.get_mut(name)) {
            let kind = if entry.granted() { &mut count.grants } else { &mut count.matches };
            *kind += entry.decisions();
        }
    }

    /// What a credential did.
    pub(super) fn of(&self, tenant: Guid, principal: Guid, name: &str) -> Use {
        let names = self.counts.get(&(tenant, principal));
        names.and_then(|names| names.get(name)).copied().unwrap_or_default()
    }

    /// How often one in observe mode fitted.
    pub(super) fn matched(&self, matches: u64) -> String {
        let least = if self.sums { "at least " } else { "" };
        format!("matched {least}{matches} time{}", if matches == 1 { "" } else { "s" })
    }
}

/// What the findings are worth, for people.
pub(super) fn text(told: &Told<'_>) -> String {
    match told {
        Ok(Uses { span: Some((first, last)), .. }) => format!(
            "unused_credentials: by the audit log from {} to {} ({}); of a credential that is used more rarely this proves nothing\n",
            time(*first),
            time(*last),
            humantime::format_duration(length(*first, *last)),
        ),
        Ok(Uses { span: None, .. }) => String::new(),
        Err(why) => format!("unused_credentials: can't be told: {}\n", plain(why)),
    }
}

/// The same for scripts.
pub(super) fn json(told: &Told<'_>) -> Value {
    match told {
        Ok(uses) => json!({
            "first": uses.span.map(|(first, _)| time(first)),
            "last": uses.span.map(|(_, last)| time(last)),
            "seconds": uses.span.map(|(first, last)| length(first, last).as_secs()),
            "unknown": null,
        }),
        Err(why) => json!({ "first": null, "last": null, "seconds": null, "unknown": why }),
    }
}

fn length(first: UnixTime, last: UnixTime) -> Duration {
    Duration::from_secs(u64::try_from(last.saturating_sub(first)).unwrap_or_default())
}

fn time(at: UnixTime) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}
