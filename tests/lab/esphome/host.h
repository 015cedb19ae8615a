/* Settings of a program built by build.sh, from its environment. */
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sodium.h>
#include <type_traits>

static const char *setting(const char *name, const char *fallback) {
  const char *value = getenv(name);
  return value != nullptr && *value ? value : fallback;
}

static uint16_t api_port() { return (uint16_t) atoi(setting("ESPHOME_PORT", "6053")); }

static const char *serial_device(const char *uart) {
  return setting(strcmp(uart, "uart") == 0 ? "ESPHOME_UART" : "ESPHOME_UART2", "/dev/null");
}

/* Without a key the API is not encrypted. */
template<typename Server> static void set_key(Server *server) {
  static std::array<uint8_t, 32> key;
  const char *text = setting("ESPHOME_KEY", "");
  size_t length = 0;
  if (!*text)
    return;
  int status = sodium_base642bin(key.data(), key.size(), text, strlen(text), "", &length, nullptr,
                                 sodium_base64_VARIANT_ORIGINAL);
  if (status != 0 || length != key.size()) {
    fprintf(stderr, "ESPHOME_KEY must be 32 bytes in base64\n");
    exit(2);
  }
  if constexpr (std::is_invocable_v<decltype(&Server::set_noise_psk), Server *, const uint8_t *>)
    server->set_noise_psk(key.data());
  else
    server->set_noise_psk(key);
}

#ifdef USE_LAB_RADIO
#include "esphome/components/bluetooth_proxy/bluetooth_proxy.h"

template<typename Register> static void add_bluetooth(Register add) {
  auto *radio = new esphome::lab::Radio();
  auto *proxy = new esphome::bluetooth_proxy::BluetoothProxy();
  add(radio);
  add(proxy);
  proxy->set_ble_hub(radio);
  proxy->set_active(true);
  for (int slot = 0; slot < BLUETOOTH_PROXY_MAX_CONNECTIONS; slot++) {
    auto *gatt = new esphome::lab::Gatt();
    auto *connection = new esphome::bluetooth_connection::BluetoothConnection();
    add(gatt);
    radio->add(gatt);
    connection->set_backend(gatt);
    proxy->register_connection(connection);
  }
}
#endif
