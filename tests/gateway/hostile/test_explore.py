import os, time
from tests.gateway.hostile import framing
from tests.gateway.hostile.wire import exchange
from tests.gateway.hostile.cases import Case
import importlib
async def test_explore(door):
    mods = os.environ.get("MODS", "framing").split(",")
    for m in mods:
      mod = importlib.import_module(f"tests.gateway.hostile.{m}")
      for tname, table in vars(mod).items():
        if not (tname.isupper() and isinstance(table, tuple) and table and isinstance(table[0], Case)): continue
        for case in table:
            door.record.clear()
            t=time.time()
            try:
                import tests.gateway.hostile.wire as w
                w.PATIENCE_S=3
                got = await exchange(door.port, *map(door.people.fill, case.sent), answers=len(case.answers), pause_s=0.02, to_head=case.to_head)
                st = tuple(a.status for a in got)
            except BaseException as e:
                st = repr(e)[:200]
            arr = [(a.method,a.target,a.body, a.runs_as and a.runs_as==door.people.ids["customer"]) for a in door.record.arrivals]
            exp = [(e.method,e.target,e.body, e.runs_as and True) for e in case.arrives]
            ok = st==case.answers and arr==exp and not door.record.unreadable
            for a in door.record.arrivals:
                try: a.assert_plain()
                except AssertionError as e: ok=False; print("NOT PLAIN", [h for h in a.headers if h[0]!="authorization"])
                if case.without and case.without in str(a.headers): ok=False; print("HAS", case.without, a.headers)
            if not ok or time.time()-t>0.5: print("OK " if ok else "XX ", f"{time.time()-t:.2f}", tname, case.name, "| want", case.answers, exp, "| got", st, arr, "begun", door.record.begun, door.record.unreadable)
