"""Starts a program and reads from /proc what it uses."""
import asyncio
import os


class Process:
    def __init__(self, child, log):
        self.child, self.pid, self.log = child, child.pid, log

    def cpu(self):
        """Seconds of CPU of all threads, from the counters of the scheduler, which are exact to the nanosecond."""
        total = 0
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{thread}/schedstat") as file:
                    total += int(file.read().split()[0])
            except OSError:
                pass
        return total / 1e9

    def resident(self):
        """Resident memory in kB, with the pages of its file."""
        return self.memory("Rss:")

    def private(self):
        """The part of it that is not pages of its file: heap and stacks."""
        return self.memory("Anonymous:")

    def memory(self, kind):
        with open(f"/proc/{self.pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(kind))

    def written(self):
        """Bytes that reached the storage layer."""
        with open(f"/proc/{self.pid}/io") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("write_bytes:"))

    def wait_until_ended(self):
        return asyncio.wait_for(self.child.wait(), 20)

    async def stop(self):
        if self.child.returncode is None:
            self.child.terminate()
            await self.wait_until_ended()


async def start(command, folder, **variables):
    """Runs a program with nothing in its environment but PATH and these variables. Its output goes to a log."""
    log = os.path.join(folder, f"{os.path.basename(command[0])}-{len(os.listdir(folder))}.log")
    environment = {"PATH": os.environ["PATH"], **{name: str(value) for name, value in variables.items()}}
    with open(log, "wb") as output:
        child = await asyncio.create_subprocess_exec(
            *command, env=environment, cwd=folder, stdout=output, stderr=output, stdin=asyncio.subprocess.DEVNULL)
    return Process(child, log)


async def until(condition, seconds, what):
    for _ in range(int(seconds * 500)):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise TimeoutError(f"{what} did not happen within {seconds} s")
