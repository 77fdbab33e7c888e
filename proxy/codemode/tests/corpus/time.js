//# spin_do -> timeout
async () => { do {} while (1) }
//# spin_in_a_label -> timeout
async () => { outer: for (;;) { for (;;) continue outer } }
//# spin_before_the_first_await -> timeout
const start = Date.now(); while (Date.now() - start < 1e9); await codemode.x({})
//# spin_after_a_call -> timeout
async () => { await codemode.x({}); while (true); }
//# spin_while_a_call_is_in_flight -> timeout
async () => { const p = codemode.x({}); for (;;); }
//# spin_in_a_getter_of_the_arguments -> timeout
async () => codemode.x({ get a() { for (;;); } })
//# spin_in_the_result -> timeout
async () => ({ toJSON() { for (;;); } })
//# spin_in_a_proxy_result -> timeout
async () => new Proxy({}, { ownKeys() { for (;;); } })
//# spin_in_an_errors_message -> timeout
async () => { throw { get message() { for (;;); } } }
//# spin_in_an_errors_stack -> timeout
async () => { const e = new Error("x"); Object.defineProperty(e, "stack", { get() { for (;;); } }); throw e }
//# spin_in_the_console -> timeout
async () => { console.log({ toJSON() { for (;;); } }) }
//# spin_in_a_thenable -> timeout
async () => { await { then() { for (;;); } } }
//# spin_in_finally -> timeout
async () => { try { return 1 } finally { for (;;); } }
//# spin_in_a_generators_return -> timeout
async () => { const it = { [Symbol.iterator]: () => ({ next: () => ({ value: 1, done: false }), return() { for (;;); } }) }; for (const _ of it) break }
//# spin_in_sort_comparator -> timeout
async () => [3, 2, 1].sort(() => { for (;;); })
//# spin_in_replace -> timeout
async () => "aaa".replace(/a/g, () => { for (;;); })
//# spin_in_a_class_static_block -> timeout
async () => { class A { static { for (;;); } } }
//# spin_in_a_default_parameter -> timeout
async (codemode, a = (() => { for (;;); })()) => a
//# spin_at_the_top_of_an_expression -> timeout
(() => { for (;;); })()
//# jobs_that_queue_jobs -> timeout|oom
async () => { const again = () => queueMicrotask(again); again(); await new Promise(() => {}) }
//# jobs_that_double -> timeout|oom
async () => { const two = () => { Promise.resolve().then(two); Promise.resolve().then(two) }; two(); await new Promise(() => {}) }
//# await_forever -> timeout
async () => { while (true) await null }
//# thenables_without_end -> timeout|oom
async () => { const endless = { then(f) { f(endless) } }; await endless }
//# async_iterator_without_end -> timeout
async () => { for await (const _ of { [Symbol.asyncIterator]: () => ({ next: async () => ({ done: false }) }) }); }
//# generator_without_end -> timeout|oom
async () => { function* all() { for (let i = 0; ; i++) yield i } return [...all()].length }
//# backtracking_star_of_star -> timeout|error|ok
async () => /^(?:x+x+)+y$/.test("x".repeat(50))
//# backtracking_alternatives -> timeout|error|ok
async () => /^(?:b|b|bb)*$/.test("b".repeat(90) + "c")
//# backtracking_lookbehind -> timeout|error|ok
async () => /(?<=(?:c*)*d)e/.test("c".repeat(60) + "e")
//# backtracking_backreference -> timeout|error|ok
async () => /^(f*)\1*\1*\1*\1*g$/.test("f".repeat(3000))
//# regexp_in_split -> timeout|error|ok
async () => "h".repeat(60).split(/(?:h+h+)+i/).length
//# native_sort_of_a_sparse_array -> timeout|oom|error
async () => { const a = []; a[4294967294] = 1; a[7] = 2; return a.sort().length }
//# native_join_of_a_sparse_array -> timeout|oom|error
async () => { const a = []; a.length = 4294967295; return a.join("").length }
//# native_to_string_of_a_sparse_array -> timeout|oom|error
async () => String(new Array(4294967295)).length
//# native_reverse_of_something_long -> timeout|oom|error
async () => Array.prototype.reverse.call({ length: 2 ** 53 - 1 })
//# native_unshift_of_something_long -> timeout|oom|error
async () => Array.prototype.unshift.call({ length: 2 ** 53 - 2 }, 1)
//# native_splice_of_something_long -> timeout|oom|error
async () => Array.prototype.splice.call({ length: 2 ** 53 - 1 }, 0, 1)
//# native_last_index_of -> timeout|oom|error|ok
async () => Array.prototype.lastIndexOf.call({ length: 2 ** 53 - 1 }, 1)
//# native_includes_of_a_proxy -> timeout|oom|error
async () => Array.prototype.includes.call(new Proxy({}, { get: (_, k) => k === "length" ? 2 ** 53 - 1 : 0 }), 1)
//# native_fill -> timeout|oom|error
async () => new Array(4294967295).fill(1).length
//# native_copy_within -> timeout|oom|error
async () => Array.prototype.copyWithin.call({ length: 2 ** 52 }, 1, 0)
//# native_concat_spreadable -> timeout|oom|error
async () => [].concat({ length: 2 ** 32 - 1, [Symbol.isConcatSpreadable]: true }, { length: 2 ** 32 - 1, [Symbol.isConcatSpreadable]: true }).length
//# native_flat_of_something_long -> timeout|oom|error
async () => Array.prototype.flat.call({ length: 2 ** 53 - 1 }).length
//# native_to_spliced -> timeout|oom|error
async () => Array.prototype.toSorted.call({ length: 4294967295 }).length
//# native_json_of_a_sparse_array -> timeout|oom|error
async () => { const a = []; a.length = 4294967295; return a }
//# native_arguments_of_apply -> timeout|oom|error
async () => Math.max.apply(null, { length: 4294967295 })
//# native_big_product -> timeout|oom|error|ok
async () => { let n = 7n; for (let i = 0; i < 40; i++) n *= n; return String(n).length }
//# native_big_power -> timeout|oom|error|ok
async () => (13n ** 9000000n).toString(36).length
//# native_big_shift -> timeout|oom|error|ok
async () => { let n = 1n << 100000000n; return String(n % 1000n) }
//# native_normalize -> timeout|oom|ok
async () => "\u1e9b\u0323".repeat(2e6).normalize("NFKD").length
//# native_index_of_in_a_long_text -> timeout|oom|ok
async () => { const hay = "a".repeat(8e6), needle = "a".repeat(4e6) + "b"; let n = 0; for (let i = 0; i < 1000; i++) n += hay.indexOf(needle); return n }
//# native_typed_array_sort -> timeout|oom|ok
async () => { const a = new Float64Array(4e6).map(() => Math.random()); for (let i = 0; i < 100; i++) a.slice().sort(); return 1 }
//# dates_of_any_text -> ok|timeout
async () => { let n = 0; for (let i = 0; i < 1e5; i++) n += isNaN(Date.parse("1".repeat(i % 300))) ? 1 : 0; return n }
