//# list_without_end -> oom|timeout
async () => { const kept = []; for (;;) kept.push(new Array(1000).fill(kept.length)) }
//# text_that_doubles -> oom|error
async () => { let s = "abcdefgh"; for (;;) s = s + s }
//# text_that_is_repeated -> oom|error
async () => "0123456789".repeat(2 ** 28).length
//# text_that_is_padded -> oom|error|ok
async () => "x".padStart(2 ** 30 - 2, "yz").length
//# text_in_pieces_made_whole -> oom|error|timeout
async () => { const parts = []; for (let i = 0; i < 1e6; i++) parts.push("0123456789".repeat(100)); return parts.join("").length }
//# buffer_of_a_terabyte -> oom|error
async () => new ArrayBuffer(2 ** 40).byteLength
//# buffer_that_can_grow -> oom|error
async () => { const b = new ArrayBuffer(8, { maxByteLength: 2 ** 33 }); b.resize(2 ** 32); return b.byteLength }
//# many_buffers -> oom|error
async () => { const kept = []; for (;;) kept.push(new Uint8Array(1 << 20).fill(1)) }
//# set_without_end -> oom|timeout
async () => { const s = new Set(); for (let i = 0; ; i++) s.add("key" + i) }
//# properties_without_end -> oom|timeout
async () => { const o = {}; for (let i = 0; ; i++) o["k" + i] = i }
//# symbols_without_end -> oom|timeout
async () => { for (let i = 0; ; i++) globalThis[Symbol.for("s" + i)] = i }
//# closures_without_end -> oom|timeout
async () => { let f = () => 0; for (;;) { const g = f; f = () => g } }
//# promises_without_end -> oom|timeout
async () => { const kept = []; for (;;) kept.push(new Promise(() => {})) }
//# a_chain_that_is_freed_at_once -> ok|oom|timeout
async () => { let chain = null; for (let i = 0; i < 2e5; i++) chain = { chain }; chain = null; return 1 }
//# a_chain_as_json -> error|oom
async () => { let chain = null; for (let i = 0; i < 1e5; i++) chain = [chain]; return chain }
//# deep_json_read -> error|oom|ok
async () => JSON.parse("[".repeat(3e5) + "]".repeat(3e5)).length
//# out_of_memory_caught -> ok|oom|timeout
async () => { try { const kept = []; for (;;) kept.push("x".repeat(1 << 20) + kept.length) } catch { return "caught" } }
//# out_of_memory_caught_again_and_again -> timeout|oom
async () => { for (;;) { try { const kept = []; for (;;) kept.push(new Uint8Array(1 << 16)) } catch {} } }
//# out_of_memory_in_the_console -> ok|oom|error
async () => { console.log("x".repeat(1 << 25)); console.log(new Array(1e6).fill("y")); return 1 }
//# out_of_memory_in_the_arguments -> error|oom|timeout
async () => codemode.x({ a: new Array(3e6).fill("zzzzzzzzzz") })
//# a_regexp_with_many_groups -> error|timeout|ok|oom
async () => new RegExp("(a)".repeat(60000)).test("a")
//# a_regexp_with_a_large_count -> error|timeout|ok|oom
async () => new RegExp("(?:a{1000}){1000}{1000}").test("a")
//# a_class_of_all_letters -> error|timeout|ok|oom
async () => new RegExp("[" + Array.from({ length: 20000 }, (_, i) => String.fromCodePoint(0x1000 + i * 3)).join("") + "]", "u").test("a")
//# a_source_with_many_functions -> ok|error|oom|timeout
async () => { for (let i = 0; i < 50; i++) new Function("return [" + "()=>0,".repeat(20000) + "]"); return 1 }
//# a_template_of_templates -> oom|error|timeout
async () => { let t = "x"; for (let i = 0; i < 60; i++) t = `${t}${t}${t}`; return t.length }
