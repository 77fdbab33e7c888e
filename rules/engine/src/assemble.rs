//! Assembles a set from documents: rules, the filters that narrow them, and the administrator's changes to them.

use crate::{
    Activity, Change, Filter, FilterStatus, LoadError, NamedServers, NeededEvidence, Origin, Rule, Source, Targets,
    detection::Items,
    error::{Report, nearest},
    expr::Expr,
    extension::Example,
    filter::LoadedFilter,
    judge::{Aim, Judged, Part},
    lint::{self, Lint},
    load::{self, Document, Loaded},
    overrides::{self, Override, Whom},
    slow,
    texts::TextPatterns,
};
use gnomon_observe::{Action, Phase};
use smol_str::SmolStr;
use std::{collections::HashMap, sync::Arc, time::SystemTime};

/// The most rules, and the most filters, of one set.
const MAX_RULES: usize = 4096;

/// Input to compilation besides the rules' own text: overrides, time, lint.
#[derive(Clone, Debug)]
pub struct Adjustments {
    /// The overrides: `overrides.yml`.
    pub overrides: Option<Source>,
    /// Filters that end before this moment do nothing. By default none does.
    pub now: SystemTime,
    /// Run the lint, or skip it.
    pub lint: Lint,
}

impl Default for Adjustments {
    fn default() -> Self {
        Self { overrides: None, now: SystemTime::UNIX_EPOCH, lint: Lint::Skip }
    }
}

/// The content of a set.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) rules: Vec<Rule>,
    pub(crate) judged: Vec<Judged>,
    /// Each rule's own condition, without filters, and its examples.
    pub(crate) own: Vec<(Expr, Vec<Example>)>,
    pub(crate) disabled: Vec<Rule>,
    pub(crate) filters: Vec<Filter>,
    /// Each filter's condition and its examples.
    pub(crate) conditions: Vec<(Arc<Expr>, Vec<Example>)>,
    pub(crate) wanted: NeededEvidence,
    pub(crate) named_servers: NamedServers,
    /// The patterns on texts that pass, if any rule has some.
    pub(crate) texts: Option<Arc<TextPatterns>>,
    pub(crate) warnings: Vec<LoadError>,
    pub(crate) now: SystemTime,
}

/// A set, which counts for nothing where there are errors.
pub(crate) struct Assembled {
    pub(crate) inner: Inner,
    pub(crate) errors: Vec<LoadError>,
}

pub(crate) fn assemble(sources: &[Source], adjustments: &Adjustments) -> Assembled {
    let mut told = Told::default();
    let (mut loaded, mut filters) = read(sources, adjustments.lint, &mut told);
    if let Some(source) = &adjustments.overrides {
        let mut report = Report::new(&source.name);
        let (of_packs, of_rules): (Vec<_>, Vec<_>) =
            overrides::file(source, &mut report).into_iter().partition(|change| matches!(change.whom, Whom::Pack(_)));
        // A change to a rule takes precedence over one to its pack.
        for change in of_rules.iter().chain(&of_packs) {
            apply(change, &source.name, &mut loaded, &mut report);
        }
        told.take(report);
    }
    let narrowed = narrow(&mut loaded, &mut filters, adjustments, &mut told);
    Assembled { inner: inner(loaded, filters, &narrowed, adjustments, told.warnings), errors: told.errors }
}

#[derive(Default)]
struct Told {
    errors: Vec<LoadError>,
    warnings: Vec<LoadError>,
}

impl Told {
    fn take(&mut self, report: Report<'_>) {
        self.errors.extend(report.errors);
        self.warnings.extend(report.warnings);
    }

    fn at(file: &str, line: u32, message: String) -> LoadError {
        LoadError { file: file.to_owned(), line, column: 1, message }
    }
}

fn read(sources: &[Source], lint: Lint, told: &mut Told) -> (Vec<Loaded>, Vec<LoadedFilter>) {
    let (mut rules, mut filters): (Vec<Loaded>, Vec<LoadedFilter>) = (Vec::new(), Vec::new());
    let mut ids = HashMap::new();
    let mut items = Items::default();
    for source in sources {
        let mut report = Report::new(&source.name);
        for document in load::file(source, &mut report, &mut items) {
            let (id, at) = match &document {
                Document::Rule(one) => (Some(&one.rule.id), one.at),
                Document::Filter(one) => (one.filter.id.as_ref(), one.at),
            };
            if let Some(id) = id
                && let Some(first) = ids.insert(id.clone(), format!("{}:{}", source.name, at.line))
            {
                report.at::<()>(at, format!("the id {id} is also used in {first}; give one of them a new UUID"));
            }
            match document {
                Document::Rule(one) => {
                    if lint == Lint::Run || lint::may_contradict_its_channel(&one) {
                        lint::rule(&one, &source.text, &mut report, lint);
                    }
                    rules.push(*one);
                }
                Document::Filter(one) => filters.push(*one),
            }
        }
        told.take(report);
    }
    if rules.len() > MAX_RULES || filters.len() > MAX_RULES {
        let name = sources.last().map(|source| source.name.clone()).unwrap_or_default();
        told.errors.push(Told::at(&name, 1, format!("more than {MAX_RULES} rules or filters; load fewer packs")));
    }
    (rules, filters)
}

fn is_called(rule: &Rule, name: &str) -> bool {
    rule.id.eq_ignore_ascii_case(name) || rule.name.as_deref() == Some(name)
}

/// A suggestion for an unknown rule name.
fn meant(name: &str, rules: &[Loaded]) -> String {
    let known: Vec<&str> =
        rules.iter().flat_map(|one| [Some(&one.rule.id), one.rule.name.as_ref()]).flatten().map(SmolStr::as_str).collect();
    match nearest(&name.to_ascii_lowercase(), &known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; `gnomon rules list` names those that are".to_owned(),
    }
}

fn apply(change: &Override, file: &str, rules: &mut [Loaded], report: &mut Report<'_>) {
    match &change.whom {
        Whom::Rule(name) => {
            let Some(place) = rules.iter().position(|one| is_called(&one.rule, name)) else {
                let hint = meant(name, rules);
                report.at::<()>(change.whom_at, format!("no rule `{name}` is loaded{hint}"));
                return;
            };
            if rules[place].rule.change.is_some() {
                report.at::<()>(change.at, format!("the rule `{name}` is changed twice; merge the two"));
                return;
            }
            change_one(change, file, &mut rules[place], report);
        }
        Whom::Pack(name) => {
            let mut of_pack = rules.iter_mut().filter(|one| one.rule.origin == Origin::Vendor && is_of_pack(&one.rule, name)).peekable();
            if of_pack.peek().is_none() {
                report.at::<()>(
                    change.whom_at,
                    format!("no rule of a pack `{name}` is loaded; `rules.packs` in the configuration names those that are"),
                );
            }
            for one in of_pack.filter(|one| one.rule.change.is_none()) {
                change_one(change, file, one, report);
            }
        }
    }
}

/// The files of a pack are named after it.
fn is_of_pack(rule: &Rule, pack: &str) -> bool {
    rule.file.strip_prefix(pack).is_some_and(|rest| rest.starts_with('/'))
}

fn change_one(change: &Override, file: &str, one: &mut Loaded, report: &mut Report<'_>) {
    let rule = &mut one.rule;
    rule.change = Some(Change {
        level: rule.level,
        action: rule.response.action,
        reason: change.reason.clone(),
        file: file.into(),
        line: change.at.line,
    });
    rule.level = change.level.unwrap_or(rule.level);
    rule.enforcement = change.enforcement.unwrap_or(rule.enforcement);
    one.activity = change.activity.unwrap_or(one.activity);
    if let Some(response) = &change.response {
        if response.action == Action::Allow && rule.origin == Origin::Vendor {
            report.at::<()>(change.at, "a shipped rule's `allow` sets nothing aside; write a rule of your own, or `enabled: false`");
        }
        rule.response = response.clone();
        load::allow_is_timely(&rule.response, &one.asks, change.at, report);
    }
}

/// Puts filters over the rules they are for; which filters each rule has.
fn narrow(rules: &mut [Loaded], filters: &mut [LoadedFilter], adjustments: &Adjustments, told: &mut Told) -> Vec<Vec<usize>> {
    let mut narrowed = vec![Vec::new(); rules.len()];
    for (place, one) in filters.iter_mut().enumerate() {
        let file = one.filter.file.clone();
        let mut report = Report::new(&file);
        if let Targets::Named(names) = &one.filter.targets {
            for name in names.iter().filter(|name| !rules.iter().any(|rule| is_called(&rule.rule, name))) {
                report.advise(one.at, format!("no rule `{name}` is loaded{}", meant(name, rules)));
            }
        }
        let is_for = |rule: &Rule| match &one.filter.targets {
            Targets::Any => true,
            Targets::Named(names) => names.iter().any(|name| is_called(rule, name)),
        };
        let is_over = one.filter.is_over(adjustments.now);
        let mut count = 0;
        for (rule, filters) in rules.iter_mut().zip(&mut narrowed).filter(|(rule, _)| is_for(&rule.rule)) {
            // An expired allow is checked too: its owner may prolong it.
            load::allow_is_timely(&rule.rule.response, &one.asks, one.at, &mut report);
            let late = one.asks.phases.last() > Phase::Message && rule.asks.phases.last() <= Phase::Message;
            if late && rule.rule.response.action.interferes() {
                let message = format!(
                    "`{}` is decided on the request, but this filter needs the answer; name what the request says",
                    rule.rule.title
                );
                report.at::<()>(one.at, message);
            }
            if !is_over {
                filters.push(place);
                count += 1;
            }
        }
        one.filter.status = match count {
            _ if is_over => FilterStatus::Expired,
            0 => FilterStatus::Idle,
            count => FilterStatus::Acts(count),
        };
        told.take(report);
    }
    narrowed
}

fn inner(
    loaded: Vec<Loaded>,
    filters: Vec<LoadedFilter>,
    narrowed: &[Vec<usize>],
    adjustments: &Adjustments,
    warnings: Vec<LoadError>,
) -> Inner {
    let mut inner = Inner {
        rules: Vec::new(),
        judged: Vec::new(),
        own: Vec::new(),
        disabled: Vec::new(),
        filters: Vec::new(),
        conditions: Vec::new(),
        wanted: NeededEvidence::default(),
        named_servers: NamedServers::default(),
        texts: None,
        warnings,
        now: adjustments.now,
    };
    for (mut one, places) in loaded.into_iter().zip(narrowed) {
        one.rule.filters.clone_from(places);
        let mut asks = one.asks;
        let mut parts = vec![one.expr.clone()];
        for filter in places.iter().filter_map(|place| filters.get(*place)) {
            filter.expr.asks(&mut asks);
            parts.push(Expr::Filter(Arc::clone(&filter.expr)));
        }
        one.rule.phase = asks.phases.last();
        if one.activity == Activity::Disabled {
            inner.disabled.push(one.rule);
            continue;
        }
        inner.wanted.add(&asks);
        if one.rule.acts().interferes() {
            one.expr.named_servers(&mut inner.named_servers);
        }
        let (aim, expr) = (Aim::of(&one.expr), Expr::all(parts));
        inner.judged.push(Judged { expr, phases: asks.phases, part: Part::of(&one.rule), rank: 0, aim });
        inner.rules.push(one.rule);
        inner.own.push((one.expr, one.examples));
    }
    inner.texts = TextPatterns::of(inner.judged.iter().map(|judged| &judged.expr));
    let mut order: Vec<usize> = (0..inner.rules.len()).collect();
    order.sort_by(|a, b| slow::rank(&inner.rules[*a]).cmp(&slow::rank(&inner.rules[*b])));
    for (rank, place) in order.into_iter().enumerate() {
        inner.judged[place].rank = rank as u16;
    }
    let (listed, conditions): (Vec<Filter>, Vec<_>) = filters.into_iter().map(|one| (one.filter, (one.expr, one.examples))).unzip();
    (inner.filters, inner.conditions) = (listed, conditions);
    inner
}
