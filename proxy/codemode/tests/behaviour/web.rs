//! The small built-ins of web browsers.

use std::time::Duration;

use gnomon_codemode::{Limit, Limits, ScriptOutcome};

use crate::stage::{run, run_with, sandbox, thrown, value};

#[tokio::test]
async fn the_webs_small_built_ins_are_there() {
    let sandbox = sandbox().await;
    for (code, json) in [
        ("[atob('aMOkbGxv'), atob('aGk'), btoa('h\\u00e4'), atob(' aG k= ')]", r#"["hÃ¤llo","hi","aOQ=","hi"]"#),
        ("new TextDecoder().decode(Uint8Array.fromBase64('aMOkbGxv'))", "\"hällo\""),
        ("new TextDecoder().decode(Uint8Array.from(atob('aMOkbGxv'), (c) => c.charCodeAt(0)))", "\"hällo\""),
        ("[...new TextEncoder().encode('h\\u00e4\\u{1f600}')]", "[104,195,164,240,159,152,128]"),
        (
            "[new TextDecoder('utf-16le').decode(new Uint8Array([104, 0])), new TextDecoder('latin1').decode(new Uint8Array([228])), new TextDecoder().encoding]",
            r#"["h","ä","utf-8"]"#,
        ),
        (
            "const u = new URL('../b?x=1&y=a%20b+c#h', 'https://me:pw@Example.com:443/a/c'); [u.href, u.host, u.pathname, u.search, u.hash, u.origin, u.searchParams.get('y')]",
            r##"["https://me:pw@example.com/b?x=1&y=a%20b+c#h","example.com","/b","?x=1&y=a%20b+c","#h","https://example.com","a b c"]"##,
        ),
        (
            "const u = new URL('https://x/a'); u.searchParams.set('q', 'a b&c'); u.searchParams.append('p', 1); u.pathname = '/z y'; [String(u), JSON.stringify({ u })]",
            r#"["https://x/z%20y?q=a+b%26c&p=1","{\"u\":\"https://x/z%20y?q=a+b%26c&p=1\"}"]"#,
        ),
        (
            "const p = new URLSearchParams({ a: 1, b: 'x y' }); [String(p), [...p], p.has('a'), p.get('z'), new URLSearchParams('?a=1&a=2').getAll('a'), p.size]",
            r#"["a=1&b=x+y",[["a","1"],["b","x y"]],true,null,["1","2"],2]"#,
        ),
        ("[URL.canParse('nonsense'), URL.canParse('a', 'http://b'), URL.parse('x')]", "[false,true,null]"),
        (
            "const d = { m: new Map([[1, new Date(0)]]), s: new Set([[1]]), b: new Uint8Array([5]) }; const c = structuredClone(d); d.m.clear(); [c, c.b instanceof Uint8Array]",
            r#"[{"m":{"1":"1970-01-01T00:00:00.000Z"},"s":[[1]],"b":[5]},true]"#,
        ),
        (
            "/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()) && crypto.randomUUID() !== crypto.randomUUID()",
            "true",
        ),
        ("const a = crypto.getRandomValues(new Uint32Array(8)); [a.length, new Set(a).size > 4]", "[8,true]"),
        (
            "[typeof setTimeout, typeof setInterval, typeof sleep, typeof queueMicrotask, typeof Intl, typeof fetch]",
            r#"["function","function","function","function","undefined","undefined"]"#,
        ),
    ] {
        assert_eq!(value(&sandbox, code).await, json, "{code}");
    }
    assert!(thrown(&sandbox, "new URL('nonsense')").await.starts_with("TypeError: not a URL: nonsense"));
    assert!(thrown(&sandbox, "atob('*')").await.starts_with("InvalidCharacterError: atob: the text is not Base64"));
    assert!(thrown(&sandbox, "btoa('\\u20ac')").await.contains("TextEncoder"));
}

#[tokio::test]
async fn timers_run_in_their_order_and_waiting_for_them_is_no_computing() {
    let sandbox = sandbox().await;
    let order = "async () => { const said = []; setTimeout((a) => said.push(a), 40, 'b'); setTimeout(() => said.push('a'), 5); const never = setTimeout(() => said.push('x'), 10); clearTimeout(never); await sleep(80); return said }";
    assert_eq!(value(&sandbox, order).await, r#"["a","b"]"#);
    let poll = "async () => { let n = 0; await new Promise((done) => { const t = setInterval(() => { if (++n === 3) { clearInterval(t); done() } }, 10) }); return n }";
    assert_eq!(value(&sandbox, poll).await, "3");
    let limits = Limits { sandbox_time: Duration::from_millis(150), ..Limits::default() };
    let execution = run_with(&sandbox, &limits, "async () => { await sleep(400); return codemode.test_echo(1) }").await;
    assert!(matches!(&execution.outcome, ScriptOutcome::Value(value) if value.get() == "1"), "{execution:?}");
    assert!(execution.wall_time >= Duration::from_millis(400) && execution.sandbox_time < Duration::from_millis(150), "{execution:?}");
    let both =
        run(&sandbox, "async () => Promise.all([codemode.test_slow(), sleep(10), codemode.test_slow(), sleep(150).then(() => 'slept')])")
            .await;
    assert!(matches!(&both.outcome, ScriptOutcome::Value(value) if value.get() == r#"["slow",null,"slow","slept"]"#), "{both:?}");
}

/// Other executions are not to be heard by the time that they take.
#[tokio::test]
async fn no_clock_of_a_script_is_finer_than_a_millisecond_and_no_memory_is_shared() {
    let sandbox = sandbox().await;
    let code = "async () => { for (let n = 0; n < 1000; n++) if (Date.now() % 1 || new Date().getTime() % 1) return 'finer'; \
                return [typeof performance, typeof SharedArrayBuffer, typeof Atomics, typeof Temporal, typeof Worker] }";
    assert_eq!(value(&sandbox, code).await, r#"["undefined","undefined","undefined","undefined","undefined"]"#);
}

#[tokio::test]
async fn a_timer_outlasts_no_clock() {
    let sandbox = sandbox().await;
    let limits = Limits { wall_time: Duration::from_millis(300), ..Limits::default() };
    for code in [
        "async () => sleep(100000)",
        "async () => { for (;;) await sleep(1) }",
        "async () => { setInterval(() => 0, 1); await new Promise(() => {}) }",
    ] {
        let execution = run_with(&sandbox, &limits, code).await;
        assert!(matches!(execution.outcome, ScriptOutcome::Limit(Limit::WallTime)), "{code}: {execution:?}");
        assert!(execution.wall_time < Duration::from_secs(3), "{execution:?}");
    }
    // A timer that is not awaited keeps nothing running.
    let execution = run(&sandbox, "async () => { setInterval(() => 0, 1); setTimeout(() => 0, 100000); return 1 }").await;
    assert!(matches!(&execution.outcome, ScriptOutcome::Value(value) if value.get() == "1"), "{execution:?}");
    assert!(execution.wall_time < Duration::from_secs(5), "{execution:?}");
}
