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
