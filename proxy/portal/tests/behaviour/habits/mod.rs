//! Code Mode as models use it: scripts in their habits, questions in people's words, declarations before the compiler.
//!
//! `cargo xtask quality --codemode` prints the tables; docs/quality.md explains them.

mod case;
#[path = "../../../../openapi/tests/companies/mod.rs"]
mod companies;
mod declared;
mod questions;
mod verdict;
mod world;

use crate::{ApiSetup, Running, Setup, api::HttpApi, client::Client, server::Server};
use case::{Case, FAMILIES, cases};
use companies::Company;
use gnomon_portal::CodeMode;
use serde_json::json;
use std::time::Duration;
use verdict::{Read, Verdict};

/// A portal for the four servers and the three APIs.
struct Stage {
    portal: Running,
    _servers: Vec<(&'static str, Server)>,
    _apis: Vec<HttpApi>,
}

impl Stage {
    async fn start() -> Self {
        let servers = world::servers().await;
        let mut setup = Setup::of(servers.iter().map(|(id, server)| (*id, server.url()))).code_mode(CodeMode::Enforced);
        // Others use this machine too.
        setup = setup.sandbox_time(Duration::from_secs(30));
        let mut apis = Vec::new();
        for company in Company::ALL {
            let api = HttpApi::start(world::apis::answers(company)).await;
            setup = setup.api(ApiSetup::new(company.id(), &companies::document(company, &api.url())).allow(&["*"]).writes(&["*"]));
            apis.push(api);
        }
        Self { portal: setup.start().await, _servers: servers, _apis: apis }
    }
}

/// What a script was answered.
async fn run(client: &mut Client, tool: &str, code: &str) -> (String, bool) {
    let answer = client.call(&format!("portal_codemode_{tool}"), json!({"code": code})).await;
    (answer.text().to_owned(), answer.last()["result"]["isError"] == true)
}

/// A case with what came of it.
struct Outcome {
    case: Case,
    verdict: Verdict,
    /// Whether what the answer says to do next leads there.
    led: bool,
    /// What is to be read where it did not.
    story: String,
}

async fn judged(client: &mut Client, case: Case) -> Outcome {
    world::anew();
    for fault in &case.faults {
        world::now().faults.insert(fault.tool.clone(), (fault.times, fault.says.clone()));
    }
    let (text, failed) = run(client, if case.finds { "search" } else { "execute" }, &case.script).await;
    let read = Read::of(&text, failed);
    let done = world::now().done.clone();
    let verdict = verdict::of(&case, &read, &done);
    let mut story = format!("{text}\ndone: {done:?}");
    let mut led = false;
    if let (Verdict::Told, Some(then)) = (verdict, &case.then) {
        let unsaid: Vec<&String> = case.says.iter().filter(|phrase| !text.contains(phrase.as_str())).collect();
        let kept = text.split("codemode.result('").nth(1).and_then(|rest| rest.split('\'').next()).unwrap_or_default();
        let (next, failed) = run(client, if case.finds { "search" } else { "execute" }, &then.replace("{kept}", kept)).await;
        let done = world::now().done.clone();
        led = verdict::of(&case, &Read::of(&next, failed), &done) == Verdict::Right && unsaid.is_empty() && !case.says.is_empty();
        story.push_str(&format!("\nnot said: {unsaid:?}\nthen: {next}\ndone: {done:?}"));
    }
    Outcome { case, verdict, led, story }
}

#[tokio::test]
async fn every_script_in_the_habits_of_models_is_right_or_says_what_to_do_next() {
    let stage = Stage::start().await;
    let mut client = Client::modern(stage.portal.address);
    let wanted = std::env::var("HABIT").unwrap_or_default();
    let mut all = Vec::new();
    for case in cases().into_iter().filter(|case| case.id.contains(&wanted)) {
        all.push(judged(&mut client, case).await);
    }
    println!(
        "\n{:<9} {:>6} {:>14} {:>19} {:>17} {:>8}",
        "habits of", "cases", "right at once", "right after advice", "wrong and silent", "led off"
    );
    for family in FAMILIES.into_iter().chain(["all"]) {
        let of: Vec<&Outcome> = all.iter().filter(|one| family == "all" || one.case.family == family).collect();
        let count = |is: &dyn Fn(&Outcome) -> bool| of.iter().filter(|one| is(one)).count();
        let right = count(&|one| one.verdict == Verdict::Right);
        let led = count(&|one| one.verdict == Verdict::Told && one.led);
        let silent = count(&|one| one.verdict == Verdict::Silent);
        let share = 100.0 * right as f64 / of.len().max(1) as f64;
        let off = of.len() - right - led - silent;
        println!("{family:<9} {:>6} {:>14} {led:>19} {silent:>17} {off:>8}", of.len(), format!("{right} ({share:.0} %)"));
    }
    for one in all.iter().filter(|one| one.verdict == Verdict::Silent || one.verdict == Verdict::Told && !one.led) {
        println!("\n{:?}: {}\n{}\n=> {}", one.verdict, one.case.id, one.case.script, one.story);
    }
    let right = all.iter().filter(|one| one.verdict == Verdict::Right).count();
    let names = |is: &dyn Fn(&Outcome) -> bool| all.iter().filter(|one| is(one)).map(|one| one.case.id.clone()).collect::<Vec<_>>();
    assert_eq!(names(&|one| one.verdict == Verdict::Silent), [""; 0], "wrong, and nothing says so");
    assert_eq!(names(&|one| one.verdict == Verdict::Told && !one.led), [""; 0], "what the answer says does not lead there");
    assert!(!wanted.is_empty() || all.len() >= 150, "{} cases", all.len());
    assert!(right * 10 >= all.len() * 7, "{right} of {} are right at once", all.len());
}
