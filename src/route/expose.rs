//! A service that is made callable elsewhere, as an `[[expose]]` row means it. Plain data.

use super::Rule;
use super::pattern::Pattern;
use crate::call::CallName;

/// How much of a method's name the log shows, in characters.
const LONGEST_SHOWN: usize = 80;

/// The rows that a service's calls go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Their numbers.
    pub rows: Vec<usize>,
    /// Whether they leave calls to the implicit last row.
    pub leave_some: bool,
}

/// A service, and what it is over there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// The service, as the routing table knows it.
    pub service: String,
    /// Its name over there.
    pub name: String,
    /// The methods that can be called; empty for all.
    pub methods: Vec<String>,
    /// The subjects of methods that have one of their own over there, by the method.
    pub subjects: Vec<(String, String)>,
    /// How many of its calls are taken at once, where the row says so.
    pub prefetch: Option<u16>,
    /// The dialect that it is called in, where the row says so.
    pub dialect: Option<String>,
}

impl Expose {
    /// What a call of `method` is called in the routing table; `None` where the method is not
    /// exposed, or is no name.
    pub fn call_name(&self, method: &str) -> Option<CallName> {
        let exposed = self.methods.is_empty() || self.methods.iter().any(|known| known == method);
        if exposed { CallName::of(&self.service, method) } else { None }
    }

    /// The subject that a method has of its own over there.
    pub fn own_subject(&self, method: &str) -> Option<&str> {
        let mut own = self.subjects.iter();
        own.find(|(known, _)| known == method).map(|(_, subject)| subject.as_str())
    }

    /// What a call of `method` is called in the log, whatever that is.
    pub fn called(&self, method: &str) -> String {
        let method: String = method.chars().take(LONGEST_SHOWN).collect();
        format!("{}.{method}", self.service)
    }

    /// Which of the rows decide about calls of the service, where no earlier one does.
    pub fn ways<'a>(&self, rows: impl IntoIterator<Item = (usize, &'a Rule)>) -> Ways {
        let mut ways = Ways::default();
        let all = Pattern::new(&format!("{}.*", self.service));
        let name = |method: &String| format!("{}.{method}", self.service);
        let mut left: Vec<String> = self.methods.iter().map(name).collect();
        for (row, rule) in rows {
            let (takes, is_last) = if self.methods.is_empty() {
                (rule.pattern.meets(&all), rule.pattern.covers(&all))
            } else {
                let before = left.len();
                left.retain(|name| !rule.matches(name));
                (left.len() < before, left.is_empty())
            };
            if takes {
                ways.rows.push(row);
            }
            if is_last {
                return ways;
            }
        }
        ways.leave_some = true;
        ways
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::route::HUB;

    #[test]
    fn the_rows_that_calls_go_by() {
        let of = |methods: &[&str], patterns: &[&str]| {
            let methods = methods.iter().map(|method| (*method).to_owned()).collect();
            let (service, name) = ("a".to_owned(), "a".to_owned());
            let expose = Expose {
                service,
                name,
                methods,
                subjects: Vec::new(),
                prefetch: None,
                dialect: None,
            };
            let rule = |pattern: &&str| Rule::new(pattern, HUB, Duration::from_secs(1));
            let rules: Vec<Rule> = patterns.iter().map(rule).collect();
            let Ways { rows, leave_some } = expose.ways(rules.iter().enumerate());
            (rows, leave_some)
        };
        assert_eq!(of(&[], &["b.*", "a.x", "a.*", "*"]), (vec![1, 2], false));
        assert_eq!(of(&[], &["a.x"]), (vec![0], true));
        assert_eq!(of(&[], &[]), (vec![], true));
        assert_eq!(of(&["x", "y"], &["a.x", "a.x", "a.z", "a.*", "*"]), (vec![0, 3], false));
        assert_eq!(of(&["x"], &["a.y", "b.*"]), (vec![], true));
    }
}
