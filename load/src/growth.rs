//! A series of runs that differ in one thing at a time, for what an exchange costs as that grows.

use std::path::Path;

use clap::ValueEnum;
use serde::Deserialize;

use crate::args::{GrowthArgs, RunArgs};
use crate::report::Growth;
use crate::scenario::Scenario;
use crate::{Failure, run, show};

/// The series that is compiled in.
const KNOWN: &str = include_str!("../growth.toml");
/// The folder for reports, and the beginning of each file's name.
const NAME: &str = "growth";
/// Values of one axis, at most: more are no picture.
const MOST_VALUES: usize = 6;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    /// What all runs share.
    base: Scenario,
    #[serde(rename = "axis")]
    axes: Vec<Axis>,
}

/// What grows while all else stays as in the base.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Axis {
    grows: Grows,
    values: Vec<usize>,
}

/// What can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grows {
    /// In the directory.
    Identities,
    /// Of each identity.
    Credentials,
    /// Over which the credentials are spread.
    Issuers,
    /// Of each identity.
    Roles,
    /// Kept, and used in turn.
    Connections,
}

impl Grows {
    fn name(self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Credentials => "credentials",
            Self::Issuers => "issuers",
            Self::Roles => "roles",
            Self::Connections => "connections",
        }
    }

    fn of(self, scenario: &mut Scenario) -> &mut usize {
        match self {
            Self::Identities => &mut scenario.directory.identities,
            Self::Credentials => &mut scenario.directory.credentials,
            Self::Issuers => &mut scenario.directory.issuers,
            Self::Roles => &mut scenario.directory.roles,
            Self::Connections => &mut scenario.traffic.connections,
        }
    }
}

impl Series {
    fn find(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(file) = file else { return Self::parse(NAME, KNOWN) };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Self::parse(&file.display().to_string(), &text)
    }

    /// Every run of it makes sense, or none is started.
    fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let series: Self = toml::from_str(text).map_err(|error| format!("series {name}: {error}"))?;
        for (number, axis) in series.axes.iter().enumerate() {
            let Axis { grows, values } = axis;
            if series.axes[..number].iter().any(|other| other.grows == *grows) {
                return Err(format!("series {name}: {} grow twice", grows.name()).into());
            }
            let ascends = values.is_sorted_by(|one, next| one < next);
            if !ascends || !(1..=MOST_VALUES).contains(&values.len()) {
                let grows = grows.name();
                return Err(format!("series {name}: {grows}: 1 to {MOST_VALUES} values that ascend").into());
            }
            for value in values {
                series.at(*grows, *value).sound()?;
            }
        }
        Ok(series)
    }

    /// The axes of these names, all of them without a name.
    fn asked(&self, names: &[Grows]) -> Result<Vec<&Axis>, Failure> {
        if let Some(missing) = names.iter().find(|name| !self.axes.iter().any(|axis| axis.grows == **name)) {
            return Err(format!("the series has no axis {}", missing.name()).into());
        }
        Ok(self.axes.iter().filter(|axis| names.is_empty() || names.contains(&axis.grows)).collect())
    }

    fn at(&self, grows: Grows, value: usize) -> Scenario {
        let mut scenario = self.base.clone();
        scenario.name = format!("{}-{value}", grows.name());
        *grows.of(&mut scenario) = value;
        scenario
    }
}

/// Runs all of it, unless one run is broken: then the figures beside it are worth nothing either.
pub(crate) async fn run(args: &GrowthArgs) -> Result<(), Failure> {
    let series = Series::find(args.series.as_deref())?;
    let (axes, folder) = (series.asked(&args.axes)?, args.common.out.join(NAME));
    let each = RunArgs { common: args.common.clone(), ..RunArgs::default() };
    let mut growth = Growth::about(&series.base.about);
    for Axis { grows, values } in axes {
        for value in values {
            let mut scenario = series.at(*grows, *value);
            scenario.change(&each)?;
            show::note(&format!("{} {value}", grows.name()));
            let report = run::run(&each, &scenario).await?;
            report.write(&folder.join(&report.scenario))?;
            if !report.holds() {
                show::line(&show::table(&report));
                return Err(format!("{} is broken, and so is the series", report.scenario).into());
            }
            growth.add(grows.name(), *value, &report);
        }
    }
    show::line(&growth.table());
    show::line(&growth.markdown());
    for file in growth.write(&folder.join(NAME))? {
        show::line(&format!("  {}", file.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(from: &str, to: &str) -> String {
        let text = KNOWN.replacen(from, to, 1);
        assert_ne!(text, KNOWN, "{from}");
        Series::parse("s", &text).unwrap_err().to_string()
    }

    #[test]
    fn the_series_has_the_sizes_that_are_asked_about() {
        let series = Series::parse(NAME, KNOWN).unwrap();
        let sizes: Vec<_> = series.axes.iter().map(|axis| (axis.grows, axis.values.as_slice())).collect();
        let expected: [(Grows, &[usize]); 5] = [
            (Grows::Identities, &[10, 1000, 10_000]),
            (Grows::Credentials, &[1, 20]),
            (Grows::Issuers, &[1, 100]),
            (Grows::Roles, &[0, 200]),
            (Grows::Connections, &[1, 100, 10_000]),
        ];
        assert_eq!(sizes, expected);
        assert!(!series.base.asserts.is_empty(), "it holds whatever happens");
    }

    #[test]
    fn one_thing_grows_and_all_else_stays() {
        let series = Series::parse(NAME, KNOWN).unwrap();
        for axis in &series.axes {
            for value in &axis.values {
                let mut scenario = series.at(axis.grows, *value);
                assert_eq!(scenario.name, format!("{}-{value}", axis.grows.name()));
                assert_eq!(*axis.grows.of(&mut scenario), *value);
                let mut base = series.base.clone();
                *axis.grows.of(&mut scenario) = *axis.grows.of(&mut base);
                assert_eq!(scenario, Scenario { name: scenario.name.clone(), ..base });
            }
        }
    }

    #[test]
    fn axes_are_chosen_by_name() {
        let series = Series::parse(NAME, KNOWN).unwrap();
        assert_eq!(series.asked(&[]).unwrap().len(), 5);
        let asked = series.asked(&[Grows::Roles, Grows::Identities]).unwrap();
        assert_eq!(
            asked.iter().map(|axis| axis.grows).collect::<Vec<_>>(),
            [Grows::Identities, Grows::Roles]
        );
        let fewer = Series { axes: Vec::new(), ..series };
        let error = fewer.asked(&[Grows::Roles]).unwrap_err();
        assert_eq!(error.to_string(), "the series has no axis roles");
    }

    #[test]
    fn a_series_that_makes_no_sense_is_refused_before_anything_runs() {
        assert!(refused("\"roles\"", "\"issuers\"").contains("issuers grow twice"));
        assert!(refused("\"roles\"", "\"height\"").contains("height"));
        assert!(refused("[0, 200]", "[]").contains("roles: 1 to 6 values that ascend"));
        assert!(refused("[0, 200]", "[200, 0]").contains("roles: 1 to 6 values that ascend"));
        assert!(refused("[0, 200]", "[0, 1, 2, 3, 4, 5, 6]").contains("1 to 6 values"));
        assert!(refused("[0, 200]", "[0, 201]").contains("roles-201: directory.roles is to be 0 to 200"));
        assert!(refused("[1, 100]", "[1, 101]").contains("101 issuers, but only 100 credentials"));
        assert!(refused("pool", "speed").contains("unknown field `speed`"));
        assert!(
            Series::find(Some(Path::new("/nowhere.toml"))).unwrap_err().to_string().contains("/nowhere.toml")
        );
    }
}
