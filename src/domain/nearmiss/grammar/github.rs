//! Subjects of GitHub Actions: `repo:OWNER/NAME:CONTEXT`, each name with `@id` behind it in the immutable form.

/// A subject that begins with the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Subject<'a> {
    pub(in super::super) owner: Named<'a>,
    pub(in super::super) repository: Named<'a>,
    pub(in super::super) context: Context<'a>,
}

/// A name, and its id in the immutable form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Named<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) id: Option<&'a str>,
}

/// What comes behind the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Context<'a> {
    Environment(&'a str),
    PullRequest,
    Branch(&'a str),
    Tag(&'a str),
    /// A template of the organisation's own, or a mistake.
    Other(&'a str),
}

/// Keys of templates that organisations and repositories may set in place of the standard.
const TEMPLATE_KEYS: [&str; 12] = [
    "job_workflow_ref:",
    "repository_id:",
    "repository_owner:",
    "repository_owner_id:",
    "repository_visibility:",
    "workflow:",
    "workflow_ref:",
    "actor:",
    "actor_id:",
    "event_name:",
    "runner_environment:",
    "enterprise:",
];

impl<'a> Subject<'a> {
    /// Reads a subject whose repository is well-formed, whatever comes behind it.
    pub(in super::super) fn parse(subject: &'a str) -> Option<Self> {
        let (owner, rest) = subject.strip_prefix("repo:")?.split_once('/')?;
        let (repository, context) = rest.split_once(':')?;
        let sound = |name: &str| !name.is_empty() && !name.contains([':', '/']);
        (sound(owner) && sound(repository)).then(|| Self {
            owner: Named::parse(owner),
            repository: Named::parse(repository),
            context: Context::parse(context),
        })
    }

    /// Whether owner and repository have their ids.
    pub(in super::super) fn is_immutable(&self) -> bool {
        self.owner.id.is_some() && self.repository.id.is_some()
    }
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Self {
        let split = text.rsplit_once('@').filter(|(name, id)| {
            !name.is_empty() && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())
        });
        split.map_or(Self { name: text, id: None }, |(name, id)| Self { name, id: Some(id) })
    }
}

impl<'a> Context<'a> {
    fn parse(text: &'a str) -> Self {
        if is_template(text) {
            return Self::Other(text);
        }
        let behind = |prefix| text.strip_prefix(prefix);
        if text == "pull_request" {
            return Self::PullRequest;
        }
        behind("environment:")
            .map(Self::Environment)
            .or_else(|| behind("ref:refs/heads/").map(Self::Branch))
            .or_else(|| behind("ref:refs/tags/").map(Self::Tag))
            .unwrap_or(Self::Other(text))
    }

    /// What the context says, as a person would name it.
    pub(in super::super) fn part(&self) -> &'static str {
        match self {
            Self::Environment(_) => "environment",
            Self::PullRequest => "event",
            Self::Branch(_) => "branch",
            Self::Tag(_) => "tag",
            Self::Other(_) => "context",
        }
    }
}

/// Whether a subject, or what is behind the repository in one, follows a template of somebody's own.
pub(in super::super) fn is_template(text: &str) -> bool {
    TEMPLATE_KEYS.iter().any(|key| text.starts_with(key) || text.contains(&format!(":{key}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(text: &str) -> Context<'_> {
        Subject::parse(text).unwrap().context
    }

    #[test]
    fn the_classic_and_the_immutable_form_are_read() {
        let classic = Subject::parse("repo:octo/app:ref:refs/heads/main").unwrap();
        assert_eq!((classic.owner.name, classic.repository.name), ("octo", "app"));
        assert!(!classic.is_immutable());
        let immutable = Subject::parse("repo:octo@12/app@34:environment:Production%3AV1").unwrap();
        assert_eq!((immutable.owner.id, immutable.repository.id), (Some("12"), Some("34")));
        assert_eq!((immutable.owner.name, immutable.repository.name), ("octo", "app"));
        assert_eq!(immutable.context, Context::Environment("Production%3AV1"));
        assert_eq!(Subject::parse("repo:octo@x/app:pull_request").unwrap().owner.name, "octo@x");
    }

    #[test]
    fn contexts_are_told_apart() {
        assert_eq!(context("repo:o/r:ref:refs/heads/a/b:c#@"), Context::Branch("a/b:c#@"));
        assert_eq!(context("repo:o/r:ref:refs/tags/v1"), Context::Tag("v1"));
        assert_eq!(context("repo:o/r:pull_request"), Context::PullRequest);
        assert_eq!(context("repo:o/r:pull-request"), Context::Other("pull-request"));
        let template = "environment:prod:job_workflow_ref:o/w/.github/workflows/f.yml@refs/heads/main";
        assert_eq!(context(&format!("repo:o/r:{template}")), Context::Other(template));
        for other in ["", "repo:o", "repo:o/r", "repo:/r:x", "repo:https://github.com/o/r:x", "o/r:x"] {
            assert_eq!(Subject::parse(other), None, "{other}");
        }
    }
}
