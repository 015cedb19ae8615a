#!/usr/bin/env python3
"""A fake bluetoothd on a private D-Bus: owns org.bluez, simulates the devices of a JSON
spec and fails on command.

usage: fake_bluez.py SPEC.json        (bus: $DBUS_SYSTEM_BUS_ADDRESS)
stdin : one JSON command per line; stdout: one JSON event per line.
Needs the PyPI package dbus-fast.

Spec: {"adapter_address", "powered", "adv_interval_ms", "connect_timeout_ms", "faults": [...],
 "devices": [{"address", "address_type": "public|random", "name", "adv_services": ["ff00"],
   "manufacturer": {"76": "hex"}, "mtu": 247 (0: not reported, as by BlueZ before 5.62),
   "fragment": 20, "rssi": -60, "visible": true, "known": false,
   "connected": false (true: by an earlier client), "connect_ms", "resolve_ms" (-1: never),
   "drop_after_ms", "drop_after_writes", "passkey": "123456",
   "lose": 2 (every second notification is lost; 1: all),
   "services": [{"uuid", "characteristics": [{"uuid", "properties": [...], "value": "hex"}]}],
   "cached_services": [what BlueZ lists instead until the device is removed],
   "replies": [{"on": "ff02", "match": "hex prefix of a write",
                "notify": [{"char", "hex", "after_ms", "fragment", "gap_ms", "repeat": 1 | -1}]}],
   "on_subscribe": [{"char", "hex", ...}]}]}

Commands ("address" selects a device; without it drop and visible apply to all, others to the first):
 {"cmd":"drop"}  {"cmd":"visible","on":false}  {"cmd":"notify","char":"ff01","hex":"00"}
 {"cmd":"flood","char":"ff01","count":300}  {"cmd":"storm","count":300}  {"cmd":"rssi","value":-40}
 {"cmd":"fault","method":"Connect","error":"Failed","message":"..","times":2}
   also "hang", "delay_ms", "path", and "hold": execute the call, reply at "clear_faults"
 {"cmd":"clear_faults"}  {"cmd":"power","on":false}  {"cmd":"adapter","on":false}
 {"cmd":"remove_device"}  {"cmd":"restart"}  {"cmd":"restart","crash":true,"down_ms":2000}
 {"cmd":"stop","crash":true}  {"cmd":"start"} (the two halves of a restart)
 {"cmd":"spec","address":"..","set":{"replies":[...]}}  {"cmd":"state"} (what clients hold)
"""
import asyncio
import itertools
import json
import sys

from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

BASE = "-0000-1000-8000-00805f9b34fb"
OM, PROPS = "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties"
ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
SVC, CHR, DSC = ("org.bluez.GattService1", "org.bluez.GattCharacteristic1",
                 "org.bluez.GattDescriptor1")
E = "org.bluez.Error."
SIG = {"Class": "u", "RSSI": "n", "MTU": "q", "Value": "ay", "UUIDs": "as", "Flags": "as",
       "Includes": "ao", "Adapter": "o", "Device": "o", "Service": "o", "Characteristic": "o",
       "ManufacturerData": "a{qv}", "DiscoverableTimeout": "u", "PairableTimeout": "u", "Roles": "as", "TxPower": "n"}


def uuid128(u):
    u = u.lower()
    return "0000" + u + BASE if len(u) == 4 else (u + BASE if len(u) == 8 else u)


def emit(**kw):
    print(json.dumps(kw), flush=True)


class DBusFail(Exception):
    def __init__(self, name, text=""):
        super().__init__(text)
        self.name, self.text = (name if "." in name else E + name), text


class BlockingSocket:
    """A full socket makes the writer of dbus-fast wait instead of giving the bus up.

    A non-blocking socket that is full raises BlockingIOError (EAGAIN). dbus-fast 5.2.0 takes every
    exception for a lost bus and closes the connection, although it handles a send of fewer bytes
    than it asked for: it sends the rest as soon as the socket is writable. So report zero bytes.
    """
    def __init__(self, sock):
        self.sock = sock

    def send(self, data):
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0


class Chr:
    def __init__(self, dev, path, spec):
        self.dev, self.path, self.spec = dev, path, spec
        self.notify_by = set()


class Dev:
    def __init__(self, spec, adapter):
        self.spec, self.adapter = spec, adapter
        self.addr = spec["address"].upper()
        self.path = f"{adapter}/dev_{self.addr.replace(':', '_')}"
        self.visible = spec.get("visible", True)
        self.connecting, self.chars, self.tasks = None, {}, set()
        self.writes, self.streams = 0, {}
        self.notifications = 0
        self.sending = asyncio.Lock()    # a module sends one reply after the other


class Fake:
    def __init__(self, spec):
        self.spec, self.objs, self.faults, self.scanners = spec, {}, [], {}
        self.hci = "/org/bluez/" + spec.get("adapter", "hci0")
        self.devs = [Dev(d, self.hci) for d in spec["devices"]]
        self.faults = [dict(f) for f in spec.get("faults", [])]
        self.objs["/org/bluez"] = {"org.bluez.AgentManager1": {}}
        self.gone = set()                # clients that have left the bus
        self.calls = set()               # calls that are being answered
        self.agents = {}                 # sender -> object path
        self.faults_cleared = asyncio.Event()
        self.adapter_up()

    def adapter_up(self):
        self.objs[self.hci] = {ADAPTER: {
            "Address": self.spec.get("adapter_address", "00:AA:01:00:00:23"),
            "AddressType": "public", "Name": "fake", "Alias": "fake", "Class": 0,
            "Powered": self.spec.get("powered", True), "Discoverable": False,
            "DiscoverableTimeout": 180, "Pairable": False, "PairableTimeout": 0,
            "Discovering": False, "UUIDs": [], "Modalias": "usb:v1D6Bp0246d0542",
            "Roles": ["central", "peripheral"]}}

    # ---- D-Bus plumbing -------------------------------------------------
    def var(self, name, v):
        sig = SIG.get(name) or ("b" if isinstance(v, bool) else "s")
        return Variant(sig, bytes(v) if sig == "ay" else v)

    def dump(self, ifaces):
        return {i: {k: self.var(k, v) for k, v in p.items()} for i, p in ifaces.items()}

    async def sent(self, signal):
        """Waits until the bus has taken a signal, and lets calls be answered. Sending many without
        it would let the queue grow and answer no call meanwhile: a future that is done is no pause."""
        if signal is not None:
            await signal
        await asyncio.sleep(0)

    def signal(self, path, iface, member, sig, body):
        """Queues a signal. Await sent() when sending many."""
        return self.bus.send(Message(message_type=MessageType.SIGNAL, path=path, interface=iface,
                                     member=member, signature=sig, body=body))

    def add(self, path, ifaces):
        self.objs[path] = ifaces
        return self.signal("/", OM, "InterfacesAdded", "oa{sa{sv}}", [path, self.dump(ifaces)])

    def remove(self, path):
        for p in sorted((p for p in self.objs if p == path or p.startswith(path + "/")),
                        reverse=True):
            names = list(self.objs.pop(p))
            self.signal("/", OM, "InterfacesRemoved", "oas", [p, names])

    def set(self, path, iface, drop=(), **props):
        cur = self.objs.get(path, {}).get(iface)
        if cur is None:
            return
        for k in drop:
            cur.pop(k, None)
        cur.update(props)
        return self.signal(path, PROPS, "PropertiesChanged", "sa{sv}as",
                           [iface, {k: self.var(k, v) for k, v in props.items()}, list(drop)])

    def on_message(self, m):
        if m.message_type is MessageType.SIGNAL:
            if m.member == "NameOwnerChanged" and m.body[0].startswith(":") and not m.body[2]:
                self.client_gone(m.body[0])
            return None
        if m.message_type is not MessageType.METHOD_CALL or m.interface == \
                "org.freedesktop.DBus.Peer":
            return None
        t = asyncio.ensure_future(self.dispatch(m))
        self.calls.add(t)                # asyncio itself does not keep a task alive
        t.add_done_callback(self.calls.discard)
        return True

    async def dispatch(self, m):
        quiet = (m.interface or "").startswith("org.freedesktop.DBus")
        try:
            if not quiet:
                emit(event="call", method=m.member, path=m.path, sender=m.sender)
            f = next((f for f in self.faults if f["method"] == m.member
                      and f.get("path", m.path) == m.path and f.get("times", 1) > 0), None)
            if f:
                f["times"] = f.get("times", 1) - 1
                emit(event="fault", method=m.member, path=m.path)
                if f.get("delay_ms"):
                    await asyncio.sleep(f["delay_ms"] / 1000)
                if f.get("hang") or m.sender in self.gone:   # the caller has left
                    return
                if f.get("error"):
                    raise DBusFail(f["error"], f.get("message", ""))
            sig, body = await self.call(m)
            if f and f.get("hold"):
                await self.faults_cleared.wait()
            r = Message.new_method_return(m, sig, body)
        except DBusFail as e:
            if not quiet:
                emit(event="error", method=m.member, error=e.name, message=e.text)
            r = Message.new_error(m, e.name, e.text)
        if not m.flags & MessageFlag.NO_REPLY_EXPECTED:
            await self.bus.send(r)

    async def call(self, m):
        if m.interface == OM and m.path == "/":
            return "a{oa{sa{sv}}}", [{p: self.dump(i) for p, i in self.objs.items()}]
        o = self.objs.get(m.path)
        if o is None:
            raise DBusFail("org.freedesktop.DBus.Error.UnknownObject",
                           f"no object at {m.path}")
        if m.interface == PROPS:
            return await self.props(m, o)
        ifc = m.interface if m.interface in o else next((i for i in o if not m.interface), None)
        fn = getattr(self, f"{(ifc or 'x').rsplit('.', 1)[1] if ifc else 'x'}_{m.member}", None)
        if not fn:
            raise DBusFail("org.freedesktop.DBus.Error.UnknownMethod", f"{m.interface}.{m.member}")
        return (await fn(m)) or ("", [])

    async def props(self, m, o):
        i = m.body[0]
        if i not in o:
            raise DBusFail("org.freedesktop.DBus.Error.InvalidArgs", "no such interface")
        if m.member == "GetAll":
            return "a{sv}", [self.dump({i: o[i]})[i]]
        if m.body[1] not in o[i]:
            raise DBusFail("org.freedesktop.DBus.Error.InvalidArgs",
                           f"No such property '{m.body[1]}'")
        if m.member == "Get":
            return "v", [self.var(m.body[1], o[i][m.body[1]])]
        emit(event="set", path=m.path, property=m.body[1], value=m.body[2].value)
        if i == ADAPTER and m.body[1] == "Powered":
            self.power(m.body[2].value)
        else:
            self.set(m.path, i, **{m.body[1]: m.body[2].value})
        return "", []

    # ---- adapter --------------------------------------------------------
    def need_power(self):
        if not self.objs[self.hci][ADAPTER]["Powered"]:
            raise DBusFail("NotReady", "Resource Not Ready")

    def power(self, on):
        if not on:
            for d in self.devs:
                self.drop(d)
            self.stop_scans()
            self.set(self.hci, ADAPTER, Discovering=False, Powered=False)
        else:
            self.set(self.hci, ADAPTER, Powered=True)

    async def Adapter1_SetDiscoveryFilter(self, m):
        self.need_power()

    async def Adapter1_StartDiscovery(self, m):
        self.need_power()
        if m.sender in self.scanners:
            raise DBusFail("InProgress", "Operation already in progress")
        self.scanners[m.sender] = asyncio.ensure_future(self.scan())
        self.set(self.hci, ADAPTER, Discovering=True)

    async def Adapter1_StopDiscovery(self, m):
        t = self.scanners.pop(m.sender, None)
        if not t:
            raise DBusFail("Failed", "No discovery started")
        t.cancel()
        self.scan_end()

    def stop_scans(self):
        for t in self.scanners.values():
            t.cancel()
        self.scanners.clear()

    def scan_end(self):
        if not self.scanners:
            for d in self.devs:
                if d.path in self.objs and "RSSI" in self.objs[d.path][DEVICE]:
                    self.set(d.path, DEVICE, drop=("RSSI",))
            self.set(self.hci, ADAPTER, Discovering=False)

    async def Adapter1_RemoveDevice(self, m):
        d = next((d for d in self.devs if d.path == m.body[0] and d.path in self.objs), None)
        if not d:
            raise DBusFail("DoesNotExist", "Does Not Exist")
        self.drop(d)
        d.chars.clear()
        d.spec.pop("cached_services", None)
        self.remove(d.path)

    async def scan(self):
        # Everything visible is seen at once, so that no scan is too short on a busy machine.
        for n in itertools.count():
            for d in self.devs:
                # a battery stops advertising while connected
                if d.visible and not self.connected(d):
                    await self.sent(self.seen(d, d.spec.get("rssi", -60) - n % 3))
            await asyncio.sleep(self.spec.get("adv_interval_ms", 100) / 1000)

    def seen(self, d, rssi):
        if d.path not in self.objs:
            p = {"Address": d.addr, "AddressType": d.spec.get("address_type", "public"),
                 "Alias": d.spec.get("name", d.addr.replace(":", "-")), "Paired": False,
                 "Trusted": False, "Blocked": False, "LegacyPairing": False, "Connected": False,
                 "UUIDs": [uuid128(u) for u in d.spec.get("adv_services", [])],
                 "Adapter": self.hci, "ServicesResolved": False}
            if "manufacturer" in d.spec:
                p["ManufacturerData"] = {int(k): Variant("ay", bytes.fromhex(v))
                                         for k, v in d.spec["manufacturer"].items()}
            if "name" in d.spec:
                p["Name"] = d.spec["name"]
            if rssi is not None:
                p["RSSI"] = rssi
            return self.add(d.path, {DEVICE: p})
        if rssi is not None:
            return self.set(d.path, DEVICE, RSSI=rssi)

    # ---- device ---------------------------------------------------------
    def dev(self, path):
        return next(d for d in self.devs if path == d.path or path.startswith(d.path + "/"))

    def connected(self, d):
        return self.objs.get(d.path, {}).get(DEVICE, {}).get("Connected", False)

    async def Device1_Connect(self, m):
        self.need_power()
        d = self.dev(m.path)
        if self.connected(d):
            return
        if d.connecting:
            raise DBusFail("InProgress", "Operation already in progress")
        if self.scanners or any(x.connecting for x in self.devs):
            emit(event="overlap", address=d.addr)    # the adapter can do one thing at a time
        d.connecting = asyncio.ensure_future(self.link_up(d))
        try:
            await d.connecting
        except asyncio.CancelledError:
            raise DBusFail("Failed", "le-connection-abort-by-local") from None
        finally:
            d.connecting = None

    async def link_up(self, d):
        end = asyncio.get_running_loop().time() + self.spec.get("connect_timeout_ms", 20000) / 1000
        while not d.visible:
            if asyncio.get_running_loop().time() > end:
                raise DBusFail("Failed", "le-connection-abort-by-local")
            await asyncio.sleep(0.02)
        await asyncio.sleep(d.spec.get("connect_ms", 50) / 1000)
        self.set(d.path, DEVICE, Connected=True)
        emit(event="connected", address=d.addr)
        if d.spec.get("drop_after_ms"):
            asyncio.get_running_loop().call_later(d.spec["drop_after_ms"] / 1000, self.drop, d)
        t = asyncio.ensure_future(self.resolve(d))   # bluetoothd replies to Connect before this
        d.tasks.add(t)
        t.add_done_callback(d.tasks.discard)

    async def resolve(self, d):
        if d.spec.get("resolve_ms", 100) < 0:        # never resolves
            return
        await asyncio.sleep(d.spec.get("resolve_ms", 100) / 1000)
        if not d.chars:
            self.export(d)
        self.set(d.path, DEVICE, ServicesResolved=True,
                 UUIDs=[uuid128(s["uuid"]) for s in self.services(d)])
        for c in d.chars.values():
            if c.notify_by:
                self.subscribed(c)

    def services(self, d):
        return d.spec.get("cached_services", d.spec["services"])

    def export(self, d):
        h = 0x0A
        for s in self.services(d):
            sp = f"{d.path}/service{h:04x}"
            self.add(sp, {SVC: {"UUID": uuid128(s["uuid"]), "Primary": True, "Device": d.path,
                                "Includes": []}})
            h += 1
            for c in s["characteristics"]:
                cp = f"{sp}/char{h:04x}"
                flags = c["properties"]
                p = {"UUID": uuid128(c["uuid"]), "Service": sp, "Value": b"", "Flags": flags}
                if d.spec.get("mtu", 247):
                    p["MTU"] = d.spec.get("mtu", 247)
                if {"notify", "indicate"} & set(flags):
                    p["Notifying"] = False
                h += 2
                self.add(cp, {CHR: p})
                d.chars[cp] = Chr(d, cp, c)
                if "notify" in flags:
                    self.add(f"{cp}/desc{h:04x}", {DSC: {
                        "UUID": uuid128("2902"), "Characteristic": cp, "Value": b""}})
                    h += 1

    async def Device1_Disconnect(self, m):
        self.drop(self.dev(m.path))

    async def Device1_Pair(self, m):
        """Passkey entry: the caller's agent must return spec["passkey"]."""
        d = self.dev(m.path)
        if self.objs[d.path][DEVICE]["Paired"]:
            raise DBusFail("AlreadyExists", "Already Exists")
        if not self.connected(d):
            await self.Device1_Connect(m)
        agent = self.agents.get(m.sender) or next(iter(self.agents.values()), None)
        if "passkey" not in d.spec or agent is None:
            raise DBusFail("AuthenticationFailed", "Authentication Failed")
        r = await self.bus.call(Message(destination=agent[0], path=agent[1],
                                        interface="org.bluez.Agent1", member="RequestPasskey",
                                        signature="o", body=[d.path]))
        if r.message_type is MessageType.ERROR or r.body[0] != int(d.spec["passkey"]):
            emit(event="pair", address=d.addr, ok=False)
            raise DBusFail("AuthenticationFailed", "Authentication Failed")
        self.set(d.path, DEVICE, Paired=True, Bonded=True)
        emit(event="pair", address=d.addr, ok=True)

    async def AgentManager1_RegisterAgent(self, m):
        if m.sender in self.agents:
            raise DBusFail("AlreadyExists", "Already Exists")
        self.agents[m.sender] = (m.sender, m.body[0])

    async def AgentManager1_RequestDefaultAgent(self, m):
        if m.sender not in self.agents:
            raise DBusFail("DoesNotExist", "Does Not Exist")

    async def AgentManager1_UnregisterAgent(self, m):
        if self.agents.pop(m.sender, None) is None:
            raise DBusFail("DoesNotExist", "Does Not Exist")

    async def Device1_CancelPairing(self, m):
        raise DBusFail("DoesNotExist", "Does Not Exist")

    def drop(self, d):
        if d.connecting:
            d.connecting.cancel()
        for t in d.tasks:
            t.cancel()
        d.tasks.clear()
        d.writes = 0
        was = self.connected(d)
        if was:                          # StartNotify clients survive, as in bluetoothd
            self.set(d.path, DEVICE, Connected=False)    # bluetoothd's order
            self.set(d.path, DEVICE, ServicesResolved=False)
            emit(event="disconnected", address=d.addr)

    def client_gone(self, name):
        self.gone.add(name)
        self.agents.pop(name, None)
        t = self.scanners.pop(name, None)
        if t:
            t.cancel()
            self.scan_end()
        for d in self.devs:
            for c in d.chars.values():
                if name in c.notify_by:
                    c.notify_by.discard(name)
                    if not c.notify_by:
                        self.set(c.path, CHR, Notifying=False)

    # ---- GATT -----------------------------------------------------------
    def chr(self, path, *need):
        c = self.dev(path).chars[path]
        if need and not set(need) & set(c.spec["properties"]):
            raise DBusFail("NotSupported", "Operation is not supported")
        if not self.connected(c.dev):
            raise DBusFail("Failed", "Not connected")
        return c

    async def GattCharacteristic1_ReadValue(self, m):
        c = self.chr(m.path, "read")
        v = bytes.fromhex(c.spec.get("value", ""))
        self.set(c.path, CHR, Value=v)
        return "ay", [v]

    async def GattCharacteristic1_WriteValue(self, m):
        c = self.chr(m.path, "write", "write-without-response")
        kind = m.body[1]["type"].value if "type" in m.body[1] else "default"
        if kind == "request" and "write" not in c.spec["properties"] or \
                kind == "command" and "write-without-response" not in c.spec["properties"]:
            raise DBusFail("NotSupported", "Operation is not supported")
        self.written(c, bytes(m.body[0]), kind)

    async def GattCharacteristic1_StartNotify(self, m):
        c = self.chr(m.path, "notify", "indicate")
        if m.sender in c.notify_by:
            return
        c.notify_by.add(m.sender)
        self.set(c.path, CHR, Notifying=True)
        self.subscribed(c)

    async def GattCharacteristic1_StopNotify(self, m):
        c = self.dev(m.path).chars[m.path]
        if m.sender not in c.notify_by:
            raise DBusFail("Failed", "No notify session started")
        c.notify_by.discard(m.sender)
        if not c.notify_by:
            self.set(c.path, CHR, Notifying=False)

    def written(self, c, data, kind):
        d = c.dev
        d.writes += 1
        emit(event="write", address=d.addr, uuid=c.spec["uuid"], hex=data.hex(), type=kind)
        lim = d.spec.get("drop_after_writes")
        if lim and d.writes >= lim:
            asyncio.get_running_loop().call_later(0.01, self.drop, d)
            return
        if "passkey" in d.spec and not self.objs[d.path][DEVICE]["Paired"]:
            # as some JBD firmware does: while unpaired, it echoes every write
            back = next(u for u in (x["uuid"] for s in d.spec["services"]
                        for x in s["characteristics"] if "notify" in x["properties"]))
            self.play(d, {"notify": [{"char": back, "hex": data.hex()}]})
            return
        for r in d.spec.get("replies", []):
            if uuid128(r["on"]) == uuid128(c.spec["uuid"]) and \
                    data.hex().startswith(r["match"].lower()):
                self.play(d, r)
                break

    def subscribed(self, c):
        for r in c.dev.spec.get("on_subscribe", []):
            if uuid128(r["char"]) == uuid128(c.spec["uuid"]):
                self.play(c.dev, {"notify": [r]})

    def play(self, d, reply):
        async def go():
            for n in reply["notify"]:
                data, times = bytes.fromhex(n["hex"]), n.get("repeat", 1)
                while times != 0:
                    await asyncio.sleep(n.get("after_ms", 10) / 1000)
                    step = n.get("fragment", d.spec.get("fragment", 20))
                    async with d.sending:
                        for i in range(0, len(data), step):
                            await self.notify(d, n["char"], data[i:i + step])
                            await asyncio.sleep(n.get("gap_ms", 2) / 1000)
                    times -= 1
        t = asyncio.ensure_future(go())
        if any(n.get("repeat", 1) < 0 for n in reply["notify"]):   # a repeated request restarts the stream
            if (old := d.streams.get(reply.get("match"))) is not None:
                old.cancel()
            d.streams[reply.get("match")] = t
        d.tasks.add(t)
        t.add_done_callback(d.tasks.discard)

    async def notify(self, d, uuid, data):
        d.notifications += 1
        if (every := d.spec.get("lose")) and d.notifications % every == 0:
            return
        for c in list(d.chars.values()):
            if uuid128(c.spec["uuid"]) == uuid128(uuid) and c.notify_by and c.path in self.objs:
                await self.sent(self.set(c.path, CHR, Value=data))

    # ---- the process ------------------------------------------------------
    async def stop(self, q):
        if not q.get("crash"):
            self.power(False)
            for p in sorted(p for p in self.objs if p != "/org/bluez"):
                self.remove(p)
        else:
            for x in self.devs:
                for t in [*x.tasks, *([x.connecting] if x.connecting else [])]:
                    t.cancel()
                x.writes = 0
            self.stop_scans()
        await self.bus.release_name("org.bluez")
        for x in self.devs:
            x.chars.clear()
        self.objs = {p: o for p, o in self.objs.items() if p == "/org/bluez"}

    async def start(self, q):
        await self.bus.request_name("org.bluez")
        await asyncio.sleep(q.get("adapter_ms", 300) / 1000)   # bluetoothd detects hci0 later
        self.adapter_up()
        self.add(self.hci, self.objs[self.hci])

    # ---- control on stdin -------------------------------------------------
    async def control(self, line):
        q = json.loads(line)
        d = next((d for d in self.devs if d.addr == q.get("address", d.addr).upper()), None)
        every = [d] if "address" in q else self.devs
        cmd = q["cmd"]
        if cmd == "drop":
            for x in every:
                self.drop(x)
        elif cmd == "visible":
            for x in every:
                x.visible = q["on"]
        elif cmd == "spec":              # for example other replies, after a change of the battery's values
            d.spec.update(q["set"])
            for r in d.spec.get("replies", []):
                old = d.streams.get(r["match"])
                if old is not None and not old.done():   # the stream continues with the new values
                    stream = [n for n in r["notify"] if n.get("repeat", 1) < 0]
                    async with d.sending:                # not within a frame
                        self.play(d, {"match": r["match"], "notify": stream})
        elif cmd == "clear_faults":
            self.faults.clear()
            self.faults_cleared.set()
            self.faults_cleared = asyncio.Event()
        elif cmd == "power":
            self.power(q["on"])
        elif cmd == "notify":
            await self.notify(d, q["char"], bytes.fromhex(q["hex"]))
        elif cmd == "flood":             # numbered chunks of two bytes, as fast as the bus takes them
            for number in range(q["count"]):
                await self.notify(d, q["char"], number.to_bytes(2, "big"))
        elif cmd == "storm":             # large changes of every device, as fast as the bus takes them
            for number in range(q["count"]):
                data = {number % 65536: Variant("ay", bytes(200))}
                for x in self.devs:
                    await self.sent(self.set(x.path, DEVICE, ManufacturerData=data,
                                             RSSI=-40 - number % 50))
        elif cmd == "rssi":
            await self.set(d.path, DEVICE, RSSI=q["value"])
        elif cmd == "fault":
            self.faults.append({k: v for k, v in q.items() if k != "cmd"})
        elif cmd == "remove_device":     # BlueZ drops temporary devices
            d.chars.clear()
            self.remove(d.path)
        elif cmd == "adapter":           # unplugged / plugged in
            if q["on"]:
                self.adapter_up()
                self.add(self.hci, self.objs[self.hci])
            else:
                self.power(False)
                for x in self.devs:
                    x.chars.clear()
                self.remove(self.hci)
        elif cmd == "restart":           # a clean exit, or a crash, and a new start
            await self.stop(q)
            await asyncio.sleep(q.get("down_ms", 300) / 1000)
            await self.start(q)
        elif cmd == "stop":
            await self.stop(q)
        elif cmd == "start":
            await self.start(q)
        elif cmd == "state":             # what clients hold at the moment
            emit(event="state", scanners=list(self.scanners), agents=list(self.agents), devices={
                x.addr: {"connected": self.connected(x), "sessions": {
                    c.spec["uuid"]: list(c.notify_by)
                    for c in x.chars.values()}} for x in self.devs})
        elif cmd == "quit":
            self.bus.disconnect()
            return
        emit(event="done", cmd=cmd)

    async def run(self):
        from dbus_fast import BusType
        self.bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        self.bus._writer.sock = BlockingSocket(self.bus._writer.sock)
        self.bus.add_message_handler(self.on_message)
        await self.bus.call(Message(destination="org.freedesktop.DBus",
                                    path="/org/freedesktop/DBus",
                                    interface="org.freedesktop.DBus", member="AddMatch",
                                    signature="s", body=[
                                        "type='signal',member='NameOwnerChanged'"]))
        await self.bus.request_name("org.bluez")
        for d in self.devs:
            if d.spec.get("known"):      # in BlueZ's store before any scan
                self.seen(d, None)
            if d.spec.get("connected"):  # by a client that has exited
                self.seen(d, None)
                await self.link_up(d)
        emit(event="ready")
        r = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(r), sys.stdin)

        async def commands():
            while line := await r.readline():
                try:
                    await self.control(line)
                except Exception as e:
                    emit(event="bad-command", text=repr(e))
            self.bus.disconnect()        # the parent has exited
        asyncio.ensure_future(commands())
        try:
            await self.bus.wait_for_disconnect()
        except (EOFError, OSError):
            emit(event="bus-lost")


if __name__ == "__main__":
    asyncio.run(Fake(json.load(open(sys.argv[1]))).run())
