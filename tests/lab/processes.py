"""The processes of a test: a broker, simulated batteries and the program under test."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

HOST = "127.0.0.1"


class SetupError(Exception):
    """The test could not be set up, so it shows nothing about the program."""


class Process:
    """A child whose output goes to a file."""

    def __init__(self, name, argv, log, environment=None, stdin=subprocess.DEVNULL):
        self.name, self.log = name, log
        self.output = open(log, "ab")
        self.child = subprocess.Popen(
            argv, stdin=stdin, stdout=self.output, stderr=self.output, env=environment
        )

    def is_running(self):
        return self.child.poll() is None

    def kill(self):
        self.child.kill()
        self.child.wait(10)
        self.output.close()

    def stop(self, limit):
        """Sends SIGTERM. Returns the exit status, or None if it had to be killed after `limit` seconds."""
        if self.is_running():
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(limit)
            except subprocess.TimeoutExpired:
                self.kill()
                return None
        self.output.close()
        return self.child.returncode


def tail(path, lines=5):
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return " | ".join(file.read().splitlines()[-lines:])
    return ""


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, limit):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if not process.is_running():
            raise SetupError(f"{process.name} ended: {tail(process.log)}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    raise SetupError(f"{process.name} does not listen: {tail(process.log)}")


class Broker:
    """Mosquitto with a password and without persistence: after a restart it retains nothing."""

    USER, PASSWORD = "lab", "lab-secret"

    def __init__(self, work):
        self.work, self.port, self.process = work, free_port(), None
        passwords = os.path.join(work, "passwords")
        self.config = os.path.join(work, "mosquitto.conf")
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", passwords, self.USER, self.PASSWORD], check=True
        )
        user = "user root\n" if os.geteuid() == 0 else ""
        with open(self.config, "w") as file:
            file.write(
                f"listener {self.port} {HOST}\nallow_anonymous false\npersistence false\n"
                f"password_file {passwords}\n{user}"
            )

    def start(self):
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        log = os.path.join(self.work, "mosquitto.log")
        self.process = Process("mosquitto", [program, "-c", self.config], log)
        wait_for_port(self.port, self.process, 20)

    def client_command(self, program, *arguments):
        login = ["-h", HOST, "-p", str(self.port), "-u", self.USER, "-P", self.PASSWORD]
        return [program, *login, *arguments]

    def retained(self, *filters):
        """The retained messages of these topic filters: topic to payload."""
        topics = [word for topic in filters for word in ("-t", topic)]
        options = ["--retained-only", "-W", "1", "-F", "%t\t%p"]
        command = self.client_command("mosquitto_sub", *options, *topics)
        output = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
        return dict(line.split("\t", 1) for line in output.splitlines() if "\t" in line)


class SimulatedBattery:
    """A battery of `bms-reader simulate` on a pseudo-terminal."""

    def __init__(self, program, work, name, brand="daren"):
        self.program, self.work, self.name, self.brand = program, work, name, brand
        self.port = os.path.join(work, f"tty-{name}")
        self.process = None

    def start(self, *options):
        argv = [self.program, "simulate", "--type", self.brand, "--port-link", self.port, *options]
        log = os.path.join(self.work, f"battery-{self.name}.log")
        self.process = Process("the simulated battery", argv, log)
        end = time.monotonic() + 20
        while not os.path.exists(self.port):
            if not self.process.is_running() or time.monotonic() > end:
                raise SetupError(f"no simulated battery: {tail(log)}")
            time.sleep(0.05)


class Reader:
    """The program under test with no other environment than what a user would set."""

    def __init__(self, program, work, environment):
        self.program, self.environment = program, environment
        self.log = os.path.join(work, "reader.log")
        self.process = None

    def start(self, *command, **variables):
        environment = {**self.environment, **variables}
        self.process = Process("bms-reader", [self.program, *command], self.log, environment)
