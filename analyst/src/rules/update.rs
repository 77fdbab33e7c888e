//! `gnomon rules update`: a newer edition of the rules that ship, without a new gnomon. It is fetched, its signature is checked, everything
//! that would be loaded with it is compiled and tested, and only then is it put into force.

use super::{Chosen, check};
use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use gnomon_cli::{
    Complaint,
    feed::{Editions, Feed, LONGEST_ARCHIVE, LONGEST_SIGNATURE},
    line::{clean, counted},
    rule_files::RuleText,
    runtime,
};
use gnomon_config::{Config, FeedKey, FeedPlace};
use gnomon_engine::{Lint, Origin, Rule, RuleSet};
use gnomon_http::{
    DialOptions, Dialer, UpstreamTls,
    client::{Bounds, Client, ClientError, Redirects},
};
use http::Request;
use std::{
    collections::{BTreeMap, HashSet},
    env,
    io::{self, Write},
    time::Duration,
};

/// The timeout of each of the two requests.
const PATIENCE: Duration = Duration::from_secs(60);
/// An edition may be kept elsewhere than where it is published: by its signature it is believed, wherever it comes from.
const REDIRECTS: Redirects = Redirects::Https(3);

#[derive(Args)]
pub struct Update {
    #[command(flatten)]
    chosen: Chosen,
    /// Where the edition is: an https:// URL or a file, its signature beside it with `.minisig` added [default: rules.feed]
    #[arg(long, value_name = "URL|FILE")]
    from: Option<String>,
    /// Check it and say what would change, and change nothing
    #[arg(long, conflicts_with_all = ["rollback", "remove"])]
    dry_run: bool,
    /// Go back to the edition that was in force before this one, or to the rules that ship; this one is not installed again by itself
    #[arg(long, conflicts_with_all = ["from", "remove"])]
    rollback: bool,
    /// Go back to the rules that ship; the edition that was in force is not installed again by itself
    #[arg(long, conflicts_with = "from")]
    remove: bool,
    /// Install an edition although it was taken back by --rollback or --remove
    #[arg(long, conflicts_with_all = ["rollback", "remove"])]
    again: bool,
}

impl Update {
    pub fn run(self) -> Result<()> {
        let config = self.chosen.settle()?;
        let folder = config.rules.state_feed.clone().ok_or_else(|| {
            Complaint::usage("there is no state folder to keep an edition in".to_owned()).next("name one with --state-dir")
        })?;
        let editions = Editions::of(&folder)?;
        let mut out = io::stdout().lock();
        if self.remove {
            editions.remove()?;
            writeln!(out, "the rules that ship with gnomon {} are in force", env!("CARGO_PKG_VERSION"))?;
            return Ok(());
        }
        let key = config.rules.feed_key.as_ref().ok_or_else(|| {
            Complaint::usage("rules.feed_key is not set, so no edition could be told from a forged one".to_owned())
                .next("set it to the public key of minisign that the publisher of the rules names")
        })?;
        if self.rollback {
            match editions.roll_back(key)? {
                Some(version) => writeln!(out, "edition {version} is in force again")?,
                None => writeln!(out, "the rules that ship with gnomon {} are in force", env!("CARGO_PKG_VERSION"))?,
            }
            return Ok(());
        }
        let (archive, signature) = self.fetched(&config)?;
        self.install(&mut out, &config, (&editions, key), (&archive, &signature))
    }

    fn install(
        &self,
        out: &mut impl Write,
        config: &Config,
        (editions, key): (&Editions, &FeedKey),
        (archive, signature): (&[u8], &str),
    ) -> Result<()> {
        let feed = Feed::open(archive, signature, key)?;
        // An edition that cannot be used any more is replaced; its version still counts, so that nobody can hand out an older one.
        let (installed, _) = editions.named()?;
        let usable = editions.current(key).ok().flatten();
        if let Some(installed) = &installed {
            if feed.version < *installed {
                return Err(Complaint::input(format!(
                    "the feed has edition {}, which is older than {installed}, which is installed",
                    feed.version
                ))
                .next("ask its publisher; gnomon rules update --rollback goes back to the edition before")
                .into());
            }
            if feed.version == *installed && usable.is_some() {
                writeln!(out, "edition {installed} is installed already")?;
                return Ok(());
            }
        }
        if !self.again && editions.refused().contains(&feed.version) {
            writeln!(out, "edition {} was taken back and is not installed: a newer one will be, --again installs this one", feed.version)?;
            return Ok(());
        }
        let known: Vec<&str> = gnomon_packs::packs().iter().map(|pack| pack.name).collect();
        let before = Shipped::of(&RuleText::with_feed(&config.rules, usable.as_ref())?, Lint::Skip)?;
        let after = Shipped::of(&RuleText::with_feed(&config.rules, Some(&feed))?, Lint::Run)?;
        check::passed(&after.set)?;
        let rules = counted(after.named(|_| true).len() as u64, "rule");
        writeln!(out, "edition {}: {rules}{}", feed.version, after.changes_since(&before))?;
        for pack in feed.packs().filter(|pack| !known.contains(pack)) {
            writeln!(out, "  pack {pack} is unknown to gnomon {} and not loaded: a newer gnomon may know it", env!("CARGO_PKG_VERSION"))?;
        }
        if self.dry_run {
            writeln!(out, "nothing was changed")?;
            return Ok(());
        }
        editions.install(&feed, archive, signature)?;
        writeln!(out, "installed; a running gnomon of this state folder has it in force within seconds")?;
        Ok(())
    }

    fn fetched(&self, config: &Config) -> Result<(Vec<u8>, String)> {
        let here = env::current_dir()?;
        let named = self.from.as_deref().map(|text| match text.split_once("://") {
            Some((scheme, _)) if scheme != "https" => {
                Err(Complaint::usage(format!("{scheme}:// is not fetched from")).next("use https:// or a file"))
            }
            _ => Ok(FeedPlace::written(text, &here)),
        });
        let place = named.transpose()?.or_else(|| config.rules.feed.clone()).ok_or_else(|| {
            Complaint::usage("no feed is named".to_owned()).next("name one with --from, or as rules.feed in the configuration")
        })?;
        let archive = read(&place, config, LONGEST_ARCHIVE)?;
        let signature = read(&place.signature(), config, LONGEST_SIGNATURE)?;
        Ok((archive, String::from_utf8_lossy(&signature).into_owned()))
    }
}

fn read(place: &FeedPlace, config: &Config, longest: u64) -> Result<Vec<u8>> {
    let failed = |cause: &dyn std::fmt::Display| Complaint::input(format!("{place}: {cause}")).next("the rules in force stay");
    match place {
        FeedPlace::File(path) => Ok(gnomon_files::read(path, longest).map_err(|error| failed(&error))?),
        FeedPlace::Url(url) => {
            let tls = UpstreamTls::new(&config.proxy.upstream_ca)?;
            // The operator alone names the address; what comes is believed by its signature.
            let dialer = Dialer::new(DialOptions { forbidden: None, ..DialOptions::default() });
            let client = Client::alone(dialer, tls, "rules").following(REDIRECTS);
            let bytes = runtime()?.block_on(get(&client, url, usize::try_from(longest)?));
            Ok(bytes.map_err(|cause| failed(&cause))?.to_vec())
        }
    }
}

async fn get(client: &Client, url: &str, longest: usize) -> Result<Bytes, String> {
    let told = |error: ClientError| error.to_string();
    let request = Request::get(url).body(http_body_util::Full::default()).map_err(|error| error.to_string())?;
    let answer = client.send(request, Bounds { answer: longest, patience: PATIENCE }).await.map_err(told)?;
    match answer.status().is_success() {
        true => answer.whole().await.map_err(told),
        false => Err(format!("HTTP status {}", answer.status())),
    }
}

/// The rules of an edition among all that are loaded.
struct Shipped {
    set: RuleSet,
    /// The files of the edition.
    files: HashSet<String>,
}

impl Shipped {
    fn of(read: &RuleText, lint: Lint) -> Result<Self, Complaint> {
        let files = read.sources.iter().filter(|source| source.origin == Origin::Vendor).map(|source| source.name.clone()).collect();
        Ok(Self { set: read.compile(lint)?, files })
    }

    /// The titles of its rules of this kind, by id.
    fn named(&self, is_meant: impl Fn(&Rule) -> bool) -> BTreeMap<String, String> {
        let rules = self.set.rules().iter().chain(self.set.disabled());
        let rules = rules.filter(|rule| rule.origin == Origin::Vendor && is_meant(rule));
        rules.map(|rule| (rule.id.to_string(), rule.title.to_string())).collect()
    }

    fn disabled(&self) -> BTreeMap<String, String> {
        self.named(|rule| self.set.disabled().iter().any(|disabled| disabled.id == rule.id))
    }

    /// Rules of anybody that exceptions of its own narrow.
    fn narrowed(&self) -> BTreeMap<String, String> {
        let is_narrowed = |rule: &&Rule| {
            let filters = rule.filters.iter().filter_map(|place| self.set.filters().get(*place));
            filters.into_iter().any(|filter| self.files.contains(filter.file.as_str()))
        };
        self.set.rules().iter().filter(is_narrowed).map(|rule| (rule.id.to_string(), rule.title.to_string())).collect()
    }

    /// What it changes, each rule by its title: above all which find less from then on.
    fn changes_since(&self, before: &Self) -> String {
        let without = |from: BTreeMap<String, String>, known: &BTreeMap<String, String>| -> Vec<String> {
            from.into_iter().filter(|(id, _)| !known.contains_key(id)).map(|(_, title)| clean(&title)).collect()
        };
        let all = |edition: &Self| edition.named(|_| true);
        let mut text = String::new();
        for (what, titles) in [
            ("new", without(all(self), &all(before))),
            ("gone", without(all(before), &all(self))),
            ("switched off", without(self.disabled(), &before.disabled())),
            ("narrowed by exceptions of the edition", without(self.narrowed(), &before.narrowed())),
        ] {
            if !titles.is_empty() {
                text.push_str(&format!("; {what}: {}", titles.join(", ")));
            }
        }
        text
    }
}
