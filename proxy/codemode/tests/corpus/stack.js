//# calls_itself -> error
async () => { const f = (n) => f(n + 1) + 1; return f(0) }
//# two_call_each_other -> error
async () => { const a = () => b() + 1, b = () => a() + 1; return a() }
//# calls_itself_and_catches -> ok|timeout
async () => { const f = () => { try { return f() } catch { return 5 } }; return f() }
//# a_getter_gets_itself -> error
async () => { const o = { get a() { return this.a } }; return o.a }
//# a_proxy_of_proxies -> error|ok
async () => { let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); return p.a }
//# a_prototype_chain -> ok|error|timeout
async () => { let o = {}; for (let i = 0; i < 1e5; i++) o = Object.create(o); return o.missing === undefined }
//# bound_to_bound -> ok|error|oom|timeout
async () => { let f = () => 1; for (let i = 0; i < 2e5; i++) f = f.bind(null); return f() }
//# text_of_itself -> error
async () => { const o = { toString() { return `${this}` } }; return `${o}` }
//# iterators_in_iterators -> error|ok|oom|timeout
async () => { let it = [1].values(); for (let i = 0; i < 1e5; i++) it = it.map((x) => x); return [...it] }
//# json_calls_itself -> error
async () => { const o = { toJSON() { return JSON.stringify(o) } }; return JSON.stringify(o) }
//# flat_of_a_ring -> error|oom|timeout
async () => { const a = [1]; a.push(a); return a.flat(Infinity) }
//# ring_as_text -> ok|error
async () => { const a = [1]; a.push(a); return String(a) }
//# eval_in_eval -> error
async () => { const f = (n) => eval("f(n + 1)"); return f(0) }
//# regexp_groups_in_groups -> error|timeout
async () => new RegExp("(?:".repeat(30000) + "a" + ")".repeat(30000)).test("a")
//# a_constructor_constructs_itself -> error
async () => { class A { constructor() { this.a = new A() } } return new A() }
//# super_of_super -> error
async () => { class A { m() { return new B().m() } } class B extends A { m() { return super.m() } } return new A().m() }
//# spread_of_many -> error|oom|ok
async () => ((...all) => all.length)(...new Array(1e6).fill(0))
//# json_reviver_recurses -> error
async () => { const r = (k, v) => JSON.parse("[1]", r); return JSON.parse("[1]", r) }
