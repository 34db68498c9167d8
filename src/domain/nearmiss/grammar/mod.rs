//! What platforms' subjects are made of, so that the part that differs has a name.

pub(super) mod components;
pub(super) mod github;
pub(super) mod kubernetes;

/// The repository that a subject names: `OWNER/NAME` of GitHub, without the ids of the immutable form, or the path of a
/// GitLab project. A subject of somebody's own template need not name any.
pub fn repository(subject: &str) -> Option<String> {
    if let Some(subject) = github::Subject::parse(subject) {
        return Some(format!("{}/{}", subject.owner.name, subject.repository.name));
    }
    let components = components::parse(subject)?;
    components.first().filter(|(name, _)| *name == "project_path").map(|(_, path)| (*path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_from_subjects() {
        for (subject, found) in [
            ("repo:my--org/app:ref:refs/heads/main", Some("my--org/app")),
            ("repo:my--org@12/app@34:environment:prod", Some("my--org/app")),
            ("project_path:my--group/sub/app:ref_type:branch:ref:main", Some("my--group/sub/app")),
            ("environment:prod:repo:my--org/app", None),
            ("ref:x:project_path:my--group/app", None),
            ("system:serviceaccount:shop:cart", None),
            ("", None),
        ] {
            assert_eq!(repository(subject).as_deref(), found, "{subject}");
        }
    }
}
