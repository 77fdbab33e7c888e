//# a_binding_cannot_be_replaced -> ok "x"
async () => { try { codemode = { x: () => ({ name: "no" }) } } catch {} try { globalThis.codemode = 1 } catch {} try { Object.defineProperty(globalThis, "codemode", { value: 1 }) } catch {} return (await codemode.x({})).name }
//# a_tool_cannot_be_replaced -> ok "x"
async () => { for (const f of [() => { codemode.x = 1 }, () => { codemode.x.call = 1 }, () => Object.setPrototypeOf(codemode, { x: 1 }), () => { delete codemode.x }, () => Object.assign(codemode, { x: 1 })]) try { f() } catch {} return (await codemode.x({})).name }
//# the_object_is_no_thenable -> ok "function"
async () => typeof (await codemode).x
//# the_object_is_no_json -> error
async () => JSON.stringify(codemode)
//# the_object_has_no_keys -> error
async () => Reflect.ownKeys(codemode).length + Object.entries(codemode).length
//# the_object_has_no_prototype -> ok null
async () => Object.getPrototypeOf(codemode)
//# names_of_the_prototype_are_unknown_tools -> ok "TypeError,TypeError,TypeError,TypeError,TypeError"
async () => { const out = []; for (const n of ["__proto__", "constructor", "hasOwnProperty", "valueOf", "prototype"]) { try { await codemode[n]({}); out.push("called") } catch (e) { out.push(e.name) } } return out.join() }
//# names_that_look_alike -> ok "TypeError,TypeError,TypeError,TypeError"
async () => { const out = []; for (const n of ["X", "x ", "x\u0000", "\u0445"]) { try { await codemode[n]({}); out.push("called") } catch (e) { out.push(e.name) } } return out.join() }
//# a_name_of_a_symbol -> ok "undefined"
async () => typeof codemode[Symbol("x")]
//# a_name_of_a_megabyte -> error
async () => codemode["x".repeat(1 << 20)]({})
//# a_name_that_is_no_text -> error
async () => codemode[["nope", "never"]]({})
//# a_name_with_half_a_character -> error
async () => codemode["\udc00"]({})
//# more_names_than_memory -> oom|timeout
async () => { for (let i = 0; ; i++) codemode["n" + i] }
//# calls_without_end -> error
async () => { for (;;) await codemode.x({}) }
//# calls_without_end_at_once -> error
async () => Promise.all(Array.from({ length: 5000 }, () => codemode.x({})))
//# calls_without_end_all_settled -> error
async () => (await Promise.allSettled(Array.from({ length: 5000 }, () => codemode.x({})))).length
//# calls_that_are_caught -> error
async () => { while (true) await codemode.x({}).catch(() => {}) }
//# calls_after_the_end -> timeout|error
async () => { Promise.resolve().then(() => Promise.resolve()).then(() => { for (;;) codemode.x({}) }); return 1 }
//# a_call_that_nobody_waits_for -> ok 1
async () => { codemode.x({}); return 1 }
//# a_failure_that_nobody_waits_for -> error
async () => { codemode.fail({}); await codemode.x({}); await codemode.x({}); return 1 }
//# a_refusal_is_told -> ok "ToolError: denied by policy"
async () => { try { await codemode.fail({}) } catch (e) { return String(e) } }
//# a_refusal_cannot_be_undone -> ok "ToolError"
async () => { Promise.prototype.then = function (f) { return f("granted") }; try { return await codemode.fail({}) } catch (e) { return e.name } }
//# arguments_too_long -> error
async () => codemode.x({ a: "x".repeat(300 << 10) })
//# arguments_that_are_a_ring -> error
async () => { const a = {}; a.a = a; return codemode.x(a) }
//# arguments_that_are_big -> ok [1,"9007199254740993"]
async () => { const r = await codemode.x({ a: 1n, b: 9007199254740993n }); return [r.echo.a, r.echo.b] }
//# arguments_that_are_no_json -> ok "the argument is a symbol, which JSON has no form for: give a text"
async () => { try { await codemode.x(Symbol("s")) } catch (e) { return e.message } }
//# arguments_that_throw -> ok "mine"
async () => { try { await codemode.x({ get a() { throw new Error("mine") } }) } catch (e) { return e.message } }
//# arguments_that_are_revoked -> ok "TypeError"
async () => { const r = Proxy.revocable([], {}); r.revoke(); try { await codemode.x([r.proxy]) } catch (e) { return e.name } }
//# arguments_that_lie_about_themselves -> ok 1
async () => (await codemode.x({ a: 2, toJSON() { return { a: 1 } } })).echo.a
//# arguments_with_prototype_keys_stay_data -> ok true
async () => { const a = JSON.parse('{"__proto__":{"admin":1},"constructor":{"prototype":{"admin":1}}}'); const r = await codemode.x(a); return Object.hasOwn(r.echo, "__proto__") && r.echo.admin === undefined && ({}).admin === undefined }
//# answers_with_prototype_keys_stay_data -> ok true
async () => { const r = await codemode.pollute({}); return ({}).polluted === undefined && r.polluted === undefined && Object.hasOwn(r, "__proto__") }
//# arguments_with_frames_in_them -> ok "x"
async () => (await codemode.x({ a: "\u0000\u0000\u0000\u0005\u0005\u0000\u0001{\u0000", b: "\n{\"t\":\"Done\"}\n" })).name
//# arguments_with_half_a_character -> ok|error
async () => (await codemode.x({ a: "\udfff" })).name
//# arguments_with_a_nul -> ok 3
async () => (await codemode.x({ a: "a\u0000b" })).echo.a.length
//# changed_json_changes_nothing -> ok 4
async () => { JSON.stringify = () => '{"a":99}'; JSON.parse = () => ({ echo: { a: 98 } }); return (await codemode.x({ a: 4 })).echo.a }
//# changed_maps_change_nothing -> ok 5
async () => { for (const n of ["get", "set", "has", "delete"]) Map.prototype[n] = () => { throw 1 }; return (await codemode.x({ a: 5 })).echo.a }
//# changed_promises_change_nothing -> ok "x"
async () => { globalThis.Promise = class {}; const r = await codemode.x({}); return r.name }
//# changed_arrays_change_nothing -> ok|error
async () => { for (const n of Object.getOwnPropertyNames(Array.prototype)) { try { Array.prototype[n] = () => { throw 1 } } catch {} } return (await codemode.x({ a: [1] })).name }
//# inherited_setters_see_nothing -> ok "undefined"
async () => { let seen; for (const n of ["resolve", "reject", "name", "a"]) Object.defineProperty(Object.prototype, n, { set(v) { seen = v }, get() { return undefined }, configurable: true }); await codemode.x({ b: 6 }); return typeof seen }
//# inherited_then_is_ones_own_problem -> ok|error|timeout
async () => { Object.prototype.then = function (f) { f(1) }; return await codemode.x({}) }
//# a_call_that_is_never_answered_by_oneself -> error
async () => new Promise(() => {})
//# a_catalogue_is_ones_own_copy -> ok 1
async () => { const t = await codemode.tools(); t.splice(0); t.push(1, 2); return (await codemode.tools()).length }
//# reserved_names_take_anything -> ok|error
async () => codemode.search(Symbol("s"), { limit: -1 })
