//! Makes one table of the guests' output.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How a guest's run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// It printed everything up to its last line.
    Done(Report),
    /// Its kernel panicked each time.
    Panicked,
    /// It printed nothing more before any program of ours ran, each time: the last lines of its log.
    Unbooted(String),
    /// It printed nothing more before its last line: the last lines of its log.
    Cut(String),
}

/// The output of a guest that ran to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `uname -r`.
    kernel: String,
    /// The feature, a one-word status, and the reason; in the order of the probe.
    features: Vec<(String, String, String)>,
    /// The test programs that were started.
    programs: usize,
    /// The result line of each test program; one that did not run to its end has none.
    results: Vec<String>,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// The output of failing tests.
    said: String,
}

impl Report {
    /// Parses a log; `None` if its last line is missing.
    pub fn read(log: &str) -> Option<Self> {
        let mut report = Self::default();
        let mut done = false;
        let mut speaking = false;
        // A kernel message may stand before ours on the same line.
        for line in log.lines().filter_map(|line| Some(line.split_once("GUEST ")?.1.trim_end())) {
            let test = |end: &str| Some(line.strip_prefix("test ")?.strip_suffix(end)?.to_owned());
            if let Some(kernel) = line.strip_prefix("kernel ") {
                report.kernel = kernel.to_owned();
            } else if let Some(feature) = line.strip_prefix("feature ") {
                let mut words = feature.splitn(3, ' ').map(str::to_owned);
                let mut word = || words.next().unwrap_or_default();
                report.features.push((word(), word(), word()));
            } else if line.starts_with("program ") {
                report.programs += 1;
            } else if let Some(result) = line.strip_prefix("test result: ") {
                report.results.push(result.to_owned());
                speaking = false;
            } else if let Some(test) = test(" ... FAILED") {
                report.failed.push(test);
            } else if let Some(skip) = line.strip_prefix("SKIPPED ") {
                // A skip is printed twice: by the test, and from the file that it writes.
                if !report.skipped.iter().any(|told| told == skip) {
                    report.skipped.push(skip.to_owned());
                }
            } else if line == "done" {
                done = true;
            }
            speaking |= line.starts_with("---- ");
            if speaking {
                report.said.push_str(line);
                report.said.push('\n');
            }
        }
        done.then_some(report)
    }

    /// "43 passed, 0 failed, 2 skipped".
    pub fn counts(&self) -> String {
        let count = |what: &str| self.results.iter().map(|result| number(result, what)).sum::<u32>();
        if !self.is_whole() {
            return "the tests did not come to their end".into();
        }
        format!("{} passed, {} failed, {} skipped", count("passed"), count("failed"), self.skipped.len())
    }

    /// Whether every test program ran to its end.
    fn is_whole(&self) -> bool {
        !self.results.is_empty() && self.results.len() == self.programs
    }

    fn passed(&self) -> bool {
        let fits = |(_, status, _): &(String, String, String)| status == "ok" || status == "unsupported";
        let ok = self.is_whole() && self.results.iter().all(|result| result.starts_with("ok."));
        ok && self.failed.is_empty() && !self.features.is_empty() && self.features.iter().all(fits)
    }
}

/// The number before a word, as in "43 passed; 0 failed".
fn number(result: &str, what: &str) -> u32 {
    let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
    let found = words.windows(2).find(|pair| pair[1] == what);
    found.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

/// A column of the table: one kernel.
pub struct Column {
    pub name: &'static str,
    pub ending: Ending,
}

impl Column {
    /// Whether all tests passed, and every feature works or is one that this kernel does not have.
    pub fn passed(&self) -> bool {
        matches!(&self.ending, Ending::Done(report) if report.passed())
    }

    fn report(&self) -> Option<&Report> {
        if let Ending::Done(report) = &self.ending { Some(report) } else { None }
    }
}

/// A table of features and tests by kernel, followed by remarks.
pub fn table(columns: &[Column]) -> String {
    let mut features: Vec<&str> = Vec::new();
    for (name, ..) in columns.iter().filter_map(Column::report).flat_map(|report| &report.features) {
        if !features.contains(&name.as_str()) {
            features.push(name);
        }
    }
    let row = |out: &mut String, head: &str, cell: &dyn Fn(&Column) -> String| {
        let _ = write!(out, "| {head} |");
        for column in columns {
            let _ = write!(out, " {} |", cell(column));
        }
        out.push('\n');
    };
    let mut out = String::from("\n");
    row(&mut out, "feature", &|column| column.report().map_or_else(|| column.name.into(), |report| report.kernel.clone()));
    let _ = writeln!(out, "|---|{}", "---|".repeat(columns.len()));
    for feature in features {
        let status = |report: &Report| report.features.iter().find(|(name, ..)| name == feature).map(|(_, status, _)| status.clone());
        row(&mut out, feature, &|column| column.report().and_then(status).unwrap_or_else(|| "–".into()));
    }
    row(&mut out, "tests", &|column| column.ending.in_a_word());
    out.push_str(&remarks(columns));
    for column in columns {
        match &column.ending {
            Ending::Done(report) if !report.passed() => {
                let _ = writeln!(out, "\nFAIL {}: {}: {}\n{}", column.name, report.counts(), report.failed.join(", "), report.said);
            }
            Ending::Done(_) => {
                let _ = writeln!(out, "PASS {}", column.name);
            }
            Ending::Panicked => {
                let _ = writeln!(out, "\nFAIL {}: its kernel panicked each time", column.name);
            }
            Ending::Unbooted(tail) => {
                let _ = writeln!(out, "\nFAIL {}: {}:\n{tail}", column.name, column.ending.in_a_word());
            }
            Ending::Cut(tail) => {
                let _ = writeln!(out, "\nFAIL {}: it ended before its last line:\n{tail}", column.name);
            }
        }
    }
    out
}

/// Why a feature is missing or a test was skipped; once for all kernels with the same reason.
fn remarks(columns: &[Column]) -> String {
    let mut kernels: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for column in columns {
        let Some(report) = column.report() else { continue };
        let lacking =
            report.features.iter().filter(|(_, _, why)| !why.is_empty()).map(|(name, status, why)| format!("{name} {status}: {why}"));
        for remark in lacking.chain(report.skipped.iter().map(|skip| format!("skipped {skip}"))) {
            kernels.entry(remark).or_default().push(column.name);
        }
    }
    let mut out = String::from("\n");
    for (remark, kernels) in kernels {
        let _ = writeln!(out, "{remark} ({})", kernels.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LOG: &str = "\
SeaBIOS\n\
GUEST kernel 5.10.0-32-cloud-amd64\n\
GUEST feature maps ok \n\
[    1.0] note GUEST feature namespaced_owners unsupported cannot tell\n\
GUEST program kernel\n\
GUEST test a::b ... ok\n\
GUEST test result: ok. 41 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 9s\n\
GUEST program group\n\
GUEST test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n\
GUEST SKIPPED hello-real: curl is not installed\n";

    fn column(log: &str) -> Column {
        Column { name: "5.10", ending: Report::read(log).map_or(Ending::Panicked, Ending::Done) }
    }

    #[test]
    fn a_whole_log_passes_with_what_the_kernel_lacks_named() {
        let column = column(&format!("{LOG}GUEST done\n"));
        assert!(column.passed());
        let table = table(&[column]);
        assert!(table.contains("| namespaced_owners | unsupported |"), "{table}");
        assert!(table.contains("| 43 passed, 0 failed, 1 skipped |"), "{table}");
        assert!(table.contains("namespaced_owners unsupported: cannot tell (5.10)"), "{table}");
        assert!(table.contains("skipped hello-real: curl is not installed (5.10)"), "{table}");
    }

    #[test]
    fn a_log_without_its_last_line_is_no_report() {
        assert_eq!(Report::read(LOG), None);
    }

    #[test]
    fn a_test_program_that_crashed_is_a_failure() {
        for result in ["GUEST test result: ok. 41", "GUEST test result: ok. 2"] {
            let column = column(&(LOG.replace(result, "GUEST Segmentation fault") + "GUEST done\n"));
            assert!(!column.passed());
            assert!(table(&[column]).contains("did not come to their end"));
        }
    }

    #[test]
    fn a_broken_feature_is_a_failure_although_all_tests_passed() {
        let log = LOG.replace("maps ok", "maps broken EPERM") + "GUEST done\n";
        assert!(!column(&log).passed());
    }

    #[test]
    fn what_a_failing_test_said_is_shown() {
        let log = LOG.replace("a::b ... ok", "a::b ... FAILED").replace(
            "GUEST test result: ok. 41 passed; 0 failed",
            "GUEST ---- a::b stdout ----\nGUEST left: 1\nGUEST test result: FAILED. 40 passed; 1 failed",
        );
        let column = column(&format!("{log}GUEST done\n"));
        assert!(!column.passed());
        let table = table(&[column]);
        assert!(table.contains("FAIL 5.10: 42 passed, 1 failed, 1 skipped: a::b\n---- a::b stdout ----\nleft: 1\n"), "{table}");
    }
}
