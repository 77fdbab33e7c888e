//# timers_without_end -> timeout|ok
async () => { await new Promise(() => { setInterval(() => {}, 0) }) }
//# timers_that_double -> timeout|oom
async () => { const two = () => { setTimeout(two); setTimeout(two) }; two(); await new Promise(() => {}) }
//# a_timer_of_no_function -> error
async () => { setTimeout("codemode.x({})", 1); await sleep(5) }
//# a_timer_that_throws -> error
async () => { setTimeout(() => { throw new Error("late") }, 1); await sleep(5); return 1 }
//# a_timer_that_spins -> timeout
async () => { setTimeout(() => { for (;;); }, 1); await sleep(1000) }
//# a_sleep_beyond_the_clock -> timeout
async () => { await sleep(1e9) }
//# a_sleep_of_nonsense -> ok 1
async () => { await sleep(NaN); await sleep(-5); await sleep("x"); await sleep(); return 1 }
//# a_timer_that_is_cleared -> ok 0
async () => { let n = 0; const t = setTimeout(() => n++, 1); clearTimeout(t); clearTimeout(); clearTimeout("x"); await sleep(10); return n }
//# changed_timers_change_nothing -> ok 1
async () => { Map.prototype.forEach = () => { throw 1 }; Map.prototype.set = () => { throw 1 }; await sleep(1); return 1 }
//# atob_of_nonsense -> ok 3
async () => { let n = 0; for (const t of ["*", "a", "\u{1f600}"]) try { atob(t) } catch { n++ } return n }
//# btoa_of_more_than_bytes -> error
async () => btoa("\u0100")
//# base64_of_much -> ok|oom 174764
async () => btoa("x".repeat(1 << 17)).length
//# bytes_that_are_no_text -> ok ["\ufffd","TypeError"]
async () => { const b = new Uint8Array([0xff]); try { new TextDecoder("utf-8", { fatal: true }).decode(b) } catch (e) { return [new TextDecoder().decode(b), e.name] } }
//# a_decoder_of_nothing_known -> error
async () => new TextDecoder("shift_jis")
//# a_decoder_of_what_is_no_buffer -> error
async () => new TextDecoder().decode({ length: 1e9 })
//# random_bytes_without_bounds -> error
async () => crypto.getRandomValues(new Uint8Array(65537))
//# random_bytes_of_no_array -> error
async () => crypto.getRandomValues({ byteLength: 8 })
//# a_clone_of_a_function -> error
async () => structuredClone({ a: () => 1 })
//# a_clone_of_a_ring -> ok true
async () => { const r = { a: [] }; r.a[0] = r; const c = structuredClone(r); return c !== r && c.a[0] === c }
//# a_clone_that_nests_without_end -> error
async () => { let r = {}; for (let i = 0; i < 1e5; i++) r = { r }; return structuredClone(r).r !== undefined }
//# urls_of_nonsense -> ok 5
async () => { let n = 0; for (const u of ["", "x", "http://", "http://[", "http://a b"]) try { new URL(u) } catch (e) { n += e.name === "TypeError" } return n }
//# a_url_of_a_megabyte -> ok|oom|error
async () => new URL("http://x/" + "a".repeat(1 << 20)).href.length
//# changed_prototypes_reach_no_function_of_ours -> ok|error
async () => { let seen = 0; for (const p of [Array.prototype, String.prototype, Object.prototype]) for (const n of Object.getOwnPropertyNames(p)) if (n !== "constructor") try { const f = p[n]; if (typeof f === "function") p[n] = function (...a) { seen++; return f.apply(this, a) } } catch {} new URL("http://a/?b=1").searchParams.get("b"); return 1 }
