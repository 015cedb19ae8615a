#!/usr/bin/env python3
"""Time of one read in the PyPI package aiobmsble, without any radio: its own notification handler and its own update
are fed recorded frames from tests/vectors. Also the plain decode calls alone."""
import asyncio, importlib.metadata, json, pathlib, platform, statistics, sys, time, timeit
from bleak.backends.device import BLEDevice
from aiobmsble.bms import jbd_bms, jikong_bms

VEC = pathlib.Path(__file__).resolve().parents[1] / "tests" / "vectors"


def vector(file, name):
    v = next(v for v in json.loads((VEC / file).read_text())["vectors"] if v["id"] == name)
    raw = v.get("notifications_hex")
    return [bytes.fromhex(x.replace(" ", "")) for x in raw] if raw else [bytes.fromhex(v["response_hex"].replace(" ", ""))]


def chunks(data, n=20):
    return [bytearray(data[i:i + n]) for i in range(0, len(data), n)]


def best(fn, number):
    t = sorted(x / number * 1e6 for x in timeit.repeat(fn, number=number, repeat=9, timer=time.process_time))
    return {"min_us": round(t[0], 2), "median_us": round(statistics.median(t), 2)}


def make(module):
    b = module.BMS(BLEDevice("00:11:22:33:44:55", "x", {"path": "/org/bluez/hci0/dev_x", "props": {}}))
    return b


async def main():
    out = {"aiobmsble": importlib.metadata.version("aiobmsble"), "python": platform.python_version()}

    jk = make(jikong_bms)
    frame = vector("jk.json", "esphome_cell_info_jk02_32s_v15")[0]
    jk._sw_version, jk._prot_offset = 15, 0
    for size in (300, 128, 20):
        parts = chunks(frame, size)

        def feed():
            for p in parts:
                jk._notification_handler(None, p)
        feed()
        assert jk._msg == frame, "frame was refused"
        out[f"jk_assemble_and_check_{len(parts)}_notifications"] = best(feed, 3000)

    async def jk_read():
        feed()
        return await jk._async_update()
    sample = await jk_read()
    out["jk_sample"] = {k: sample.get(k) for k in ("voltage", "current", "battery_level", "cell_count")}
    out["jk_decode"] = best(lambda: (jk._conv_data(jk._msg, 0, 15), jk._temp_sensors(jk._msg, jk._temp_pos(), 255),
                                     jk._cell_voltages(jk._msg, cells=16, start=6, byteorder="little")), 3000)

    jbd = make(jbd_bms)
    basic = b"".join(vector("jbd.json", "jbd_16s_ble_basic_three_notifications"))
    cells = b"".join(vector("jbd.json", "jbd_16s_ble_cells_two_notifications"))

    def jbd_feed(data, reply):
        jbd._valid_reply = reply
        for p in chunks(data):
            jbd._notification_handler(None, p)

    async def answer(cmd, data=b""):
        jbd_feed(basic if cmd == 3 else cells, cmd)
    jbd._await_cmd_resp = answer
    sample = await jbd._async_update()
    out["jbd_sample"] = {k: sample.get(k) for k in ("voltage", "current", "battery_level", "cell_count")}
    out["jbd_assemble_and_check_basic"] = best(lambda: jbd_feed(basic, 3), 5000)
    out["jbd_assemble_and_check_cells"] = best(lambda: jbd_feed(cells, 4), 5000)

    async def many(read, n):
        for _ in range(n):
            await read()
    for name, read in (("jk_whole_read", jk_read), ("jbd_whole_read_basic_and_cells", jbd._async_update)):
        t = []
        for _ in range(9):
            t0 = time.process_time()
            await many(read, 2000)
            t.append((time.process_time() - t0) / 2000 * 1e6)
        out[name] = {"min_us": round(min(t), 2), "median_us": round(statistics.median(t), 2)}
    print(json.dumps(out, indent=1, default=str))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
