//! Pages of events that a filter names.

use crate::{
    Engine,
    stage::{START, call, numbers, seqs, with, written},
};
use gnomon_ledger_model::{EventFilter, Order, Pattern, Questions};
use gnomon_observe::{Family, Field};

fn only(condition: &str) -> EventFilter {
    EventFilter { conditions: vec![condition.parse().unwrap()], ..EventFilter::default() }
}

async fn found(questions: &mut Questions, filter: &EventFilter) -> Vec<i64> {
    numbers(&questions.events(filter, Order::OldestFirst).await.unwrap())
}

/// Texts, numbers, truths and lists, present and absent.
pub async fn conditions_compare_any_field_whatever_its_type(engine: &impl Engine) {
    let mut one = with(call("mcp.example.com", 1), &[(Field::EventKind, "alert"), (Field::UserName, "ada"), (Field::RuleId, "r1")]);
    one.set(Field::Sanctioned, false);
    let mut two = with(call("other.example.com", 2), &[(Field::ToolName, "it's \"quoted\" ünïcode")]);
    two.set(Field::Sanctioned, true);
    two.set(Field::Evidence, vec!["host".into(), "body".into()]);
    two.set(Field::HttpStatus, 200_i64);
    let mut three = call("mcp.example.com", 3);
    three.set_member(Family::RequestHeader, "mcp-name", "echo");
    let mut questions = written(engine, [(one, 0), (two, 1), (three, 2)]).await;
    for (condition, expected) in [
        ("server.address=mcp.example.com", vec![1, 3]),
        ("server.address=MCP.example.com", vec![]),
        ("server.address!=mcp.example.com", vec![2]),
        ("server.address=' OR 1=1 --", vec![]),
        ("server.address=", vec![]),
        ("event.kind=alert", vec![1]),
        ("event.kind!=alert", vec![2, 3]),
        ("user.name=ada", vec![1]),
        ("user.name!=ada", vec![2, 3]),
        ("rule.id=r1", vec![1]),
        ("rule.id!=r1", vec![2, 3]),
        ("gnomon.sanctioned=true", vec![2]),
        ("gnomon.sanctioned=false", vec![1]),
        ("gnomon.sanctioned!=true", vec![1, 3]),
        ("gnomon.evidence=body", vec![2]),
        ("gnomon.evidence=bod", vec![]),
        ("gnomon.evidence!=body", vec![1, 3]),
        ("http.response.status_code=200", vec![2]),
        ("http.response.status_code!=200", vec![1, 3]),
        ("http.response.status_code>=200", vec![2]),
        ("http.response.status_code>200", vec![]),
        ("http.response.status_code>-1", vec![2]),
        ("http.response.status_code<1000", vec![2]),
        ("http.response.status_code<=199", vec![]),
        ("gen_ai.tool.name=it's \"quoted\" ünïcode", vec![2]),
        ("gen_ai.tool.name!=it's \"quoted\" ünïcode", vec![1, 3]),
        ("http.request.header.mcp-name=echo", vec![3]),
        ("http.request.header.mcp-name!=echo", vec![1, 2]),
    ] {
        assert_eq!(found(&mut questions, &only(condition)).await, expected, "{condition}");
    }
}

/// Each pattern of each value, in a field that an engine may have a column for, in one that it has not, and in a list.
pub async fn patterns_mean_what_the_model_says(engine: &impl Engine) {
    let values =
        ["", "a", "A", "ab", "a.b", "a*b", "a?b", "a[b]", "[", "]", "a%b", "a_b", "a\\b", "a\\*b", "^a", "é", "É", "a\nb", "it's", "\"a\""];
    let patterns = [
        "*", "a*", "*b", "a*b", "*a*", "A*", "a\\**", "a\\*b*", "?*", "*?*", "[*", "*]", "a[b]*", "[a-z]*", "*%*", "a%*", "a_b*", "*_*",
        "*\\b", "*\\\\**", "^*", "[^a]*", "é*", "*.*", "**", "a**b", "*'*", "*\"*",
    ];
    let events = values.iter().zip(0..).map(|(value, n)| {
        let mut seen = with(call(value, n), &[(Field::ToolName, *value)]);
        seen.set(Field::Evidence, vec!["other".into(), (*value).into()]);
        (seen, n)
    });
    let mut questions = written(engine, events).await;
    for written in patterns {
        let pattern = Pattern::parse(written).unwrap();
        let (are, are_not): (Vec<i64>, Vec<i64>) = (0..).zip(values).map(|(n, value)| (n, pattern.matches(value))).fold(
            (Vec::new(), Vec::new()),
            |(mut are, mut are_not), (n, matches)| {
                if matches {
                    are.push(n)
                } else {
                    are_not.push(n)
                }
                (are, are_not)
            },
        );
        for field in ["server.address", "gen_ai.tool.name"] {
            assert_eq!(found(&mut questions, &only(&format!("{field}={written}"))).await, are, "{field}={written}");
            assert_eq!(found(&mut questions, &only(&format!("{field}!={written}"))).await, are_not, "{field}!={written}");
        }
        let of_list = if pattern.matches("other") { (0..values.len() as i64).collect() } else { are };
        assert_eq!(found(&mut questions, &only(&format!("gnomon.evidence={written}"))).await, of_list, "gnomon.evidence={written}");
    }
    for (condition, expected) in [
        ("server.port=4*", (0..values.len() as i64).collect()),
        ("server.port=*4", vec![]),
        ("user.name=*", vec![]),
        ("user.name!=*", (0..values.len() as i64).collect()),
    ] {
        assert_eq!(found(&mut questions, &only(condition)).await, expected, "{condition}");
    }
}

/// The rule decided, or is among those that matched.
pub async fn a_rule_is_found_by_id_by_title_and_among_those_that_matched(engine: &impl Engine) {
    let mut one = with(call("a.example", 1), &[(Field::RuleId, "r1"), (Field::RuleName, "Shadow call")]);
    one.set(Field::RulesMatched, vec!["r1".into(), "r2".into()]);
    let two = with(call("a.example", 2), &[(Field::RuleId, "r2")]);
    let mut questions = written(engine, [(one, 0), (two, 1), (call("a.example", 3), 2)]).await;
    for (rule, expected) in [("r1", vec![1]), ("r2", vec![1, 2]), ("Shadow call", vec![1]), ("shadow call", vec![]), ("r*", vec![])] {
        let filter = EventFilter { rule: Some(rule.to_owned()), ..EventFilter::default() };
        assert_eq!(found(&mut questions, &filter).await, expected, "{rule}");
    }
}

/// Conditions, kinds, a rule and times together.
pub async fn all_that_a_filter_names_must_hold(engine: &impl Engine) {
    let kind = |n, kind, user| with(call("a.example", n), &[(Field::EventKind, kind), (Field::UserName, user)]);
    let events = [kind(1, "alert", "ada"), kind(2, "signal", "ada"), kind(3, "event", "ada"), kind(4, "alert", "bob")];
    let mut questions = written(engine, events.into_iter().zip(0..)).await;
    let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect();
    for (filter, expected) in [
        (EventFilter { kinds: kinds(&["alert", "signal"]), ..EventFilter::default() }, vec![1, 2, 4]),
        (EventFilter { kinds: kinds(&["alert"]), ..only("user.name=ada") }, vec![1]),
        (EventFilter { kinds: kinds(&["alert"]), since_ms: Some(START + 1), ..EventFilter::default() }, vec![4]),
        (EventFilter { since_ms: Some(START + 1), until_ms: Some(START + 3), ..EventFilter::default() }, vec![2, 3]),
        (EventFilter { rule: Some("r".to_owned()), ..only("user.name=ada") }, vec![]),
        (
            EventFilter {
                conditions: vec!["user.name=a*".parse().unwrap(), "event.kind!=event".parse().unwrap()],
                ..EventFilter::default()
            },
            vec![1, 2],
        ),
        (EventFilter { kinds: kinds(&["alert' OR '1'='1"]), ..EventFilter::default() }, vec![]),
    ] {
        assert_eq!(found(&mut questions, &filter).await, expected, "{filter:?}");
    }
}

/// A page's last number is where the next one begins.
pub async fn pages_follow_each_other_in_both_directions_up_to_a_number(engine: &impl Engine) {
    let mut questions = written(engine, (0..10).map(|n| (call("a.example", n), n))).await;
    for (order, last, expected) in [
        (Order::OldestFirst, i64::MAX, vec![vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10], vec![]]),
        (Order::NewestFirst, i64::MAX, vec![vec![10, 9, 8, 7], vec![6, 5, 4, 3], vec![2, 1], vec![]]),
        (Order::OldestFirst, 6, vec![vec![1, 2, 3, 4], vec![5, 6], vec![]]),
        (Order::NewestFirst, 5, vec![vec![5, 4, 3, 2], vec![1], vec![]]),
    ] {
        let mut filter = EventFilter { limit: 4, ..EventFilter::default() };
        for page in expected {
            let found = seqs(&questions.rows().page(&filter, order, last).await.unwrap());
            assert_eq!(found, page, "{order:?} {last}");
            filter.after = found.last().copied().or(filter.after);
        }
    }
    let none = EventFilter { limit: 0, ..EventFilter::default() };
    assert_eq!(questions.events(&none, Order::OldestFirst).await.unwrap(), []);
}

/// Numbers rise with time, but for a clock that is set back.
pub async fn spans_of_time_are_found_where_the_clock_was_set_back_a_little(engine: &impl Engine) {
    let events = [0, 900_000, 400_000, 1_000_000, 9_000_000].into_iter().zip(1..).map(|(ms, n)| (call("a.example", n), ms));
    let mut questions = written(engine, events).await;
    let ms = |ms: i64| Some(START + ms);
    for (since, until, expected) in [
        (ms(0), None, vec![1, 2, 3, 4, 5]),
        (ms(400_000), ms(1_000_000), vec![2, 3]),
        (ms(900_000), None, vec![2, 4, 5]),
        (None, ms(500_000), vec![1, 3]),
        (ms(9_000_001), None, vec![]),
        (None, ms(0), vec![]),
        (ms(-9_000_000_000), ms(9_000_000_000), vec![1, 2, 3, 4, 5]),
    ] {
        let filter = EventFilter { since_ms: since, until_ms: until, ..EventFilter::default() };
        assert_eq!(found(&mut questions, &filter).await, expected, "{since:?} {until:?}");
    }
}
