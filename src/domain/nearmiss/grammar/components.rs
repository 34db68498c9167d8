//! Subjects of named components: `project_path:group/app:ref_type:branch:ref:main` (GitLab), and HCP Terraform's.

/// Every name that such a subject may have.
const NAMES: [&str; 19] = [
    "project_path",
    "project_id",
    "job_project_path",
    "job_project_id",
    "source_project_path",
    "source_project_id",
    "ref_type",
    "ref_path",
    "ref_protected",
    "ref",
    "environment",
    "environment_protected",
    "deployment_tier",
    "organization",
    "project",
    "workspace",
    "run_phase",
    "module",
    "operation",
];

/// Names and values, from left to right. A value goes on until the next name between colons, so that it may hold colons of
/// its own; what does not begin with a name is no such subject.
pub(in super::super) fn parse(subject: &str) -> Option<Vec<(&str, &str)>> {
    let (mut found, mut rest) = (Vec::new(), subject);
    loop {
        let (name, value) = rest.split_once(':')?;
        let name = NAMES.iter().find(|known| **known == name)?;
        let next = NAMES.iter().filter_map(|known| named(value, known)).min();
        match next {
            Some(end) => {
                found.push((*name, &value[..end]));
                rest = &value[end + 1..];
            }
            None => {
                found.push((*name, value));
                return Some(found);
            }
        }
    }
}

/// Where `:name:` begins in a text.
fn named(text: &str, name: &str) -> Option<usize> {
    text.match_indices(name).map(|(at, _)| at).find_map(|at| {
        let before = at.checked_sub(1)?;
        (text.as_bytes()[before] == b':' && text[at + name.len()..].starts_with(':')).then_some(before)
    })
}

/// The one name whose value differs, where the names are the same.
pub(in super::super) fn only_difference<'a>(
    presented: &[(&'a str, &str)],
    configured: &[(&'a str, &str)],
) -> Option<&'a str> {
    if !same_names(presented, configured) {
        return None;
    }
    let mut differing = presented.iter().zip(configured).filter(|(p, c)| p.1 != c.1).map(|(p, _)| p.0);
    differing.next().filter(|_| differing.next().is_none())
}

/// Whether both are made of the same components.
pub(in super::super) fn same_names(presented: &[(&str, &str)], configured: &[(&str, &str)]) -> bool {
    presented.len() == configured.len() && presented.iter().zip(configured).all(|(p, c)| p.0 == c.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn components_are_read_from_left_to_right() {
        assert_eq!(
            parse("project_path:g/s/app:ref_type:branch:ref:feature/x"),
            Some(vec![("project_path", "g/s/app"), ("ref_type", "branch"), ("ref", "feature/x")])
        );
        assert_eq!(
            parse("organization:acme:project:Default Project:workspace:net:run_phase:plan"),
            Some(vec![
                ("organization", "acme"),
                ("project", "Default Project"),
                ("workspace", "net"),
                ("run_phase", "plan")
            ])
        );
        // A name is one between colons only, and a value may be anything.
        assert_eq!(parse("project_path:ref/ref_type"), Some(vec![("project_path", "ref/ref_type")]));
        assert_eq!(parse("project_path:"), Some(vec![("project_path", "")]));
        for other in ["", "repo:octo/app:ref:refs/heads/main", "ref", "job_1", ":ref:x"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_makes_up_the_subject(subject in "(ref|project|x|:|é){0,12}") {
            if let Some(found) = parse(&subject) {
                let whole: Vec<_> = found.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                prop_assert_eq!(whole.join(":"), subject);
            }
        }
    }
}
