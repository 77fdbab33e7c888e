//! What it costs to work out what arguments mean: it grows with their length and no faster, whatever they repeat, and is bounded for the longest
//! that are read. Who sends them must not be able to keep a processor busy by a few bytes.
#![allow(clippy::unwrap_used)]

use gnomon_meaning::describe;
use gnomon_observe::{Field, Observation};
use smol_str::SmolStr;
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// What is repeated: marks of shells, URLs, encodings and numbers, and programs and functions that are given others.
const PARTS: &str = r#"
$( ${ ` " ' \ | && ; > < << >( <( ( ) { } [ ] * ? ~ = a= $a - -- / // \\ ../ ./ @ # ! % %41 %25 \u0041 \x41 \101 1 4539 0x DE89 AA UA00 é ａ %c0%ae
:// file:/// http://0x7f.1/ http:/ http: http:\ http:\\ ://a //a ws://1. h://1 http://u@ http://a? http:[ http:@é http:%41@ http://é. http:/a@ http:é
http:é:é@ https://a.b/?x= mailto: data:, [:: 1. 1.1.1.1 a.b.c. a@b ://http: ://AAAA ://QUJDREVGR0hJSktMTU5PUFFSU1RVVldY ://%41
AAAA QUJD =A == /A +A eyJ -----BEGIN b64decode(" 41 6162
{a,b} {a, {1..9} a=aaaa;$a$a $HOME ~/ /home/ /home/a $IFS $0 $'\ $'\x41 $" a:b
os.system(' system(" open( open(" open('a','b', spawn(`a` Path(" exec.Command( subprocess.run([" popen(' writeFile('a' "\'system('a" '+' "."a
import{ require( fs.readFile(" console.log( """ ''' r" f"{ eval( exec( /* */ <!-- <a 2>&1 >& |& << <<A <<<a
"#;
/// The same with blanks, one a line; `⏎` stands for the end of a line.
const LINES: &str = r#"
; 
&& a 
| sh 
 | sh -c "
a 
$a 
" 
\" 
\' 
'' 
1 
1-1 
4539 1488 
DE89 
IN 
A 
http://1.1.1.1 
http: 
:// 
python -c 
python -c a 
python -c "
python -c '
python -c \"\" 
python -c open\(\'a\'\) 
python3 -c "import os; 
perl -e '
node -e "
php -r "
sh -c 
sh -c "
sh -c 'a;b' 
bash -c \"a\" 
sh -c $(
eval 
eval $(
eval eval sh -c python -c 
ssh 
ssh a 
ssh -i a 
sudo 
sudo -u a 
env a=b 
timeout 1 
nohup 
find -exec 
find . -exec sh -c {} 
xargs 
xargs sh -c 
kubectl exec a -- 
docker -- 
chroot a 
nsenter -- sh -c 
cmd /c 
powershell -c 
powershell -enc 
powershell -enc YQA= 
su -c 
watch -c 
do 
if 
{ 
! 
echo a | sh | 
echo a | 
printf %s 
cat 
cat a 
cat ./a 
cat < a 
cat > a ; 
scp -i a 
scp -i a a 
curl -o a 
curl -E a @b 
dd if=a of=a 
cp a a 
tee a 
sed -i a 
rsync -e a 
for a in 
for a in b; do $a 
a=b 
a=b; 
a=b; $a 
alias a=
export a=
!a⏎
a⏎
⏎⏎
<<A⏎
cat <<A <<B⏎a⏎A⏎B⏎
do shell script "
do shell script "a"⏎
%%bash⏎
select 
select a from 
begin; 
union select 
C:\ 
C:\a 
get-content 
$env:a 
"#;
/// Beginnings that what is repeated builds upon, each of some KiB.
const BEGINNINGS: [(&str, &str, &str); 6] = [
    ("a=", "x", "; echo "),
    ("cat ", "/a/b", " "),
    ("os.system('", "a", "');"),
    ("http:", "http:", ""),
    ("@", "é", ""),
    ("echo ", "a ", "|"),
];
const CALLS: [(&str, &str); 4] = [("run_shell", "command"), ("run_python", "code"), ("find_customer", "x"), ("write_file", "path")];
const SHORT: usize = 8 << 10;
const LONG: usize = 64 << 10;
/// Eight times as long may take three times eight as much …
const TIMES: u32 = 24;
/// … and so much more, in which what is fixed, and what a measurement differs by, disappear.
const BESIDE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 60 } else { 3 });
/// The most for the longest arguments that are read.
const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1500 } else { 50 });

fn parts() -> impl Iterator<Item = String> {
    let lines = LINES.lines().filter(|line| !line.is_empty()).map(|line| line.replace('⏎', "\n"));
    PARTS.split_whitespace().map(str::to_owned).chain(lines).step_by(if cfg!(debug_assertions) { 8 } else { 1 })
}

/// The time of this thread on a processor, as others run beside it. Its account is brought up to date where it yields.
fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split_whitespace().next()?.parse().ok()).filter(|nanoseconds| *nanoseconds > 0);
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn described(tool: &str, arguments: &[(SmolStr, SmolStr)]) -> (Duration, Observation) {
    let mut seen = Observation::new();
    seen.set(Field::ToolName, tool);
    seen.set(Field::ToolArguments, arguments.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>());
    let began = now();
    describe(&mut seen, arguments);
    (now().saturating_sub(began), seen)
}

fn takes(tool: &str, name: &str, text: &str) -> Duration {
    described(tool, &[(name.into(), text.into())]).0
}

fn to_length(part: &str, length: usize) -> String {
    let mut text = part.repeat(length / part.len() + 1);
    text.truncate(text.floor_char_boundary(length));
    text
}

/// The best of some, as others run beside it: of no more than it takes to have a `good` one.
fn best(good: impl Fn(Duration) -> bool, measure: impl Fn() -> Duration) -> Duration {
    let mut best = measure();
    for _ in 0..4 {
        if good(best) {
            break;
        }
        best = best.min(measure());
    }
    best
}

#[test]
fn what_it_costs_to_read_arguments_grows_with_their_length_and_no_faster() {
    let mut wrong = Vec::new();
    for part in parts() {
        for (tool, name) in CALLS {
            let (short, long) = (to_length(&part, SHORT), to_length(&part, LONG));
            let short = (0..5).map(|_| takes(tool, name, &short)).min().unwrap();
            let long = best(|long| long <= TIMES * short + BESIDE && long <= MOST / 2, || takes(tool, name, &long));
            if long > TIMES * short + BESIDE || long > MOST {
                wrong.push(format!("{part:?} as {name} of {tool}: {short:?} for 8 KiB, {long:?} for 64"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_follows_a_beginning_that_it_builds_upon_costs_no_more() {
    let mut wrong = Vec::new();
    for (begins, fills, ends) in BEGINNINGS {
        let beginning = format!("{begins}{}{ends}", to_length(fills, 4000));
        for part in parts() {
            for (tool, name) in [CALLS[0], CALLS[2]] {
                let text = format!("{beginning}{}", to_length(&part, LONG / 2 - beginning.len()));
                let long = best(|long| long <= MOST, || takes(tool, name, &text));
                if long > MOST {
                    wrong.push(format!("{begins:?} {fills:?} … {part:?} as {name} of {tool}: {long:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn many_short_arguments_cost_no_more_than_a_long_one() {
    let mut wrong = Vec::new();
    for part in parts() {
        for (tool, name) in CALLS {
            for path in [name, "attachments"] {
                let value = to_length(&part, LONG / 1024 - path.len());
                let arguments: Vec<(SmolStr, SmolStr)> = (0..1024).map(|_| (path.into(), value.as_str().into())).collect();
                let long = best(|long| long <= MOST, || described(tool, &arguments).0);
                if long > MOST {
                    wrong.push(format!("{part:?} as {path} of {tool}: {long:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
