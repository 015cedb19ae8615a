"""Another client of a Bluetooth proxy, with ESPHome's own library.

    client.py PORT KEY serve ADDRESS         as Home Assistant does: subscribes to the advertisements, connects to the JBD
                                             battery, and requests its values; prints a line for each notification
    client.py PORT KEY occupy ADDRESS...     keeps connections to these batteries, without a subscription

It ends with SIGTERM, and then disconnects the batteries.
"""

import asyncio
import signal
import sys

from aioesphomeapi import APIClient
from aioesphomeapi.api_pb2 import BluetoothDeviceRequest

PUBLIC = 0
NOTIFY_HANDLE, DESCRIPTOR_HANDLE, WRITE_HANDLE = 3, 4, 6
REQUEST = bytes.fromhex("dda50300fffd77")
REQUEST_SECONDS, OCCUPY_SECONDS = 0.5, 0.1
DISCONNECT, CONNECT_UNCACHED = 1, 5


def say(text):
    print(text, flush=True)


async def serve(client, address):
    info = await client.device_info()
    flags = info.bluetooth_proxy_feature_flags
    client.subscribe_bluetooth_scanner_state(lambda state: say("scanner"))
    client.subscribe_bluetooth_le_raw_advertisements(lambda advertisements: None)
    client.subscribe_bluetooth_connections_free(lambda free, limit, allocated: say(f"free {free}"))
    await client.bluetooth_device_connect(
        address, lambda connected, mtu, error: say(f"connected {connected} {error}"), feature_flags=flags, address_type=PUBLIC)
    await client.bluetooth_gatt_get_services(address)
    await client.bluetooth_gatt_start_notify(address, NOTIFY_HANDLE, lambda handle, data: say("notification"))
    await client.bluetooth_gatt_write_descriptor(address, DESCRIPTOR_HANDLE, b"\1\0")
    while True:
        await client.bluetooth_gatt_write(address, WRITE_HANDLE, REQUEST, response=False)
        await asyncio.sleep(REQUEST_SECONDS)


def request(client, address, kind):
    message = BluetoothDeviceRequest(address=address, request_type=kind, has_address_type=True, address_type=PUBLIC)
    client._get_connection().send_message(message)


async def occupy(client, addresses):
    """Asks again and again, because the program has a connection most of the time and gives it back after each read.
    Replies go to the client that has subscribed, so this one does not wait for them."""
    say("occupied")
    while True:
        for address in addresses:
            request(client, address, CONNECT_UNCACHED)
            await asyncio.sleep(OCCUPY_SECONDS)


async def main():
    port, key, mode, *texts = sys.argv[1:]
    addresses = [int(text.replace(":", ""), 16) for text in texts]
    client = APIClient("127.0.0.1", int(port), noise_psk=key, client_info="Home Assistant")
    await client.connect(login=True)
    work = asyncio.ensure_future(serve(client, addresses[0]) if mode == "serve" else occupy(client, addresses))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        for address in addresses:
            request(client, address, DISCONNECT)
        await asyncio.sleep(0.5)
        await client.disconnect()


asyncio.run(main())
