/* A Bluetooth controller for the Bluetooth proxy of ESPHome on Linux: it sends each request as a line of text over a
 * unix socket to radio.py, and passes its answers on. Implements the contracts of components/ble_device_base
 * (BLEHubContract, BLEGattConnectionContract), which exist since 2026.10. Without ESPHOME_RADIO nothing is in range. */
#pragma once
#include "esphome/components/ble_device_base/ble_gatt_client.h"
#include "esphome/components/ble_device_base/ble_hub.h"
#include "esphome/core/component.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace esphome::lab {

using namespace ble_device_base;

inline std::vector<uint8_t> unhex(const std::string &text) {
  std::vector<uint8_t> out;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back((uint8_t) strtoul(text.substr(i, 2).c_str(), nullptr, 16));
  return out;
}

class Radio;

/// A connection slot.
class Gatt final : public Component {
 public:
  void set_listener(GattClientListener *listener) { this->listener_ = listener; }
  void set_radio(Radio *radio, int index) {
    this->radio_ = radio;
    this->index_ = index;
  }
  void set_connection_type(ConnectionType type) { this->type_ = type; }
  int connect(uint64_t address, uint8_t kind);
  int gatt_disconnect();
  bool cancel_gatt_disconnect() { return false; }
  int discover_services();
  int read_characteristic(uint16_t handle);
  int write_characteristic(uint16_t handle, const uint8_t *data, uint16_t len, bool response);
  int read_descriptor(uint16_t handle) { return this->read_characteristic(handle); }
  int write_descriptor(uint16_t handle, const uint8_t *data, uint16_t len);
  int notify_characteristic(uint16_t handle, bool enable);
  int pair();
  int update_connection_params(uint16_t, uint16_t, uint16_t, uint16_t) { return this->busy_ ? 0 : GATT_ERR_NOT_CONNECTED; }
  GattServiceTable get_service_table() {
    return {this->services_.data(), this->characteristics_.data(), this->descriptors_.data(),
            (uint16_t) this->services_.size(), (uint16_t) this->characteristics_.size(),
            (uint16_t) this->descriptors_.size()};
  }
  void release_services() {
    this->services_.clear();
    this->characteristics_.clear();
    this->descriptors_.clear();
  }
  void handle(char what, std::istringstream &rest);

 protected:
  int request_(const char *format, ...);
  GattClientListener *listener_{nullptr};
  Radio *radio_{nullptr};
  int index_{0};
  bool busy_{false};
  ConnectionType type_{};
  std::vector<GattService> services_;
  std::vector<GattCharacteristic> characteristics_;
  std::vector<GattDescriptor> descriptors_;
};

class Radio final : public Component {
 public:
  void add(Gatt *slot) {
    slot->set_radio(this, (int) this->slots_.size());
    this->slots_.push_back(slot);
  }
  // BLEHubContract
  static constexpr HubCapabilities get_capabilities() { return {true, true, true, true}; }
  void register_listener(ESPBTDeviceListener *) {}
  void set_raw_advertisement_callback(RawAdvertisementCallback callback) { this->raw_ = callback; }
  void get_adapter_mac(uint8_t *mac) {
    static const uint8_t own[6] = {0xA0, 0xB7, 0x65, 0x00, 0x00, 0x01};
    memcpy(mac, own, 6);
  }
  bool scan_running() { return this->fd_ >= 0; }
  bool scan_active() { return this->active_; }
  bool request_scan_mode(bool active) {
    this->active_ = active;
    this->send(active ? "M 1" : "M 0");
    return true;
  }

  void setup() override {
    const char *path = getenv("ESPHOME_RADIO");
    if (path == nullptr || !*path)
      return;
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
    this->fd_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
    if (::connect(this->fd_, (sockaddr *) &to, sizeof(to)) != 0) {
      perror("ESPHOME_RADIO");
      exit(2);
    }
  }
  void send(const std::string &line) {
    if (this->fd_ >= 0) {
      std::string out = line + "\n";
      (void) !::send(this->fd_, out.data(), out.size(), MSG_NOSIGNAL);
    }
  }
  void loop() override {
    char chunk[4096];
    if (this->fd_ < 0)
      return;
    ssize_t n = recv(this->fd_, chunk, sizeof(chunk), MSG_DONTWAIT);
    if (n == 0)
      exit(0);
    if (n > 0)
      this->buffer_.append(chunk, (size_t) n);
    for (size_t end; (end = this->buffer_.find('\n')) != std::string::npos;) {
      std::istringstream line(this->buffer_.substr(0, end));
      this->buffer_.erase(0, end + 1);
      char what;
      line >> what;
      if (what == 'A') {
        std::string address, data;
        int kind, rssi;
        line >> address >> kind >> rssi >> data;
        auto bytes = unhex(data);
        if (this->raw_.is_set())
          this->raw_.invoke({strtoull(address.c_str(), nullptr, 16), bytes.data(), (uint16_t) bytes.size(),
                             (int8_t) rssi, (uint8_t) kind});
      } else {
        size_t index;
        line >> index;
        if (index < this->slots_.size())
          this->slots_[index]->handle(what, line);
      }
    }
  }

 protected:
  int fd_{-1};
  bool active_{true};
  std::string buffer_;
  RawAdvertisementCallback raw_{};
  std::vector<Gatt *> slots_;
};

inline int Gatt::request_(const char *format, ...) {
  char text[2200];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  this->radio_->send(text);
  return 0;
}
inline std::string hex(const uint8_t *data, uint16_t len) {
  std::string out = len == 0 ? "-" : "";
  char two[3];
  for (uint16_t i = 0; i < len; i++)
    out += (snprintf(two, sizeof(two), "%02x", data[i]), two);
  return out;
}
inline int Gatt::connect(uint64_t address, uint8_t kind) {
  this->busy_ = true;
  return this->request_("C %d %012llx %d %d", this->index_, (unsigned long long) address, kind,
                    this->type_ == ConnectionType::V3_WITH_CACHE);
}
inline int Gatt::gatt_disconnect() {
  return this->busy_ ? this->request_("D %d", this->index_) : GATT_ERR_NOT_CONNECTED;
}
inline int Gatt::discover_services() {
  this->release_services();
  return this->request_("S %d", this->index_);
}
inline int Gatt::read_characteristic(uint16_t handle) { return this->request_("R %d %d", this->index_, handle); }
inline int Gatt::write_characteristic(uint16_t handle, const uint8_t *data, uint16_t len, bool response) {
  return this->request_("W %d %d %d %s", this->index_, handle, response, hex(data, len).c_str());
}
inline int Gatt::write_descriptor(uint16_t handle, const uint8_t *data, uint16_t len) {
  return this->request_("w %d %d %s", this->index_, handle, hex(data, len).c_str());
}
inline int Gatt::notify_characteristic(uint16_t handle, bool enable) {
  return this->request_("N %d %d %d", this->index_, handle, enable);
}
inline int Gatt::pair() { return this->request_("P %d", this->index_); }

inline void Gatt::handle(char what, std::istringstream &rest) {
  int a = 0, b = 0, c = 0;
  std::string text;
  switch (what) {
    case 'c':  // connected, mtu, error
      rest >> a >> b >> c;
      this->busy_ = a != 0;
      return this->listener_->on_connection_state(a != 0, (uint16_t) b, c);
    case 't': {  // a line of the service table
      char part;
      rest >> part >> text >> a >> b >> c;
      auto uuid = ESPBTUUID::from_raw(text);
      if (part == 'S') {
        this->services_.push_back({uuid, (uint16_t) a, (uint16_t) b, (uint16_t) this->characteristics_.size(), 0});
      } else if (part == 'C') {
        this->characteristics_.push_back(
            {uuid, (uint16_t) a, (uint16_t) b, (uint8_t) c, (uint16_t) this->descriptors_.size(), 0});
        this->services_.back().characteristic_count++;
      } else {
        this->descriptors_.push_back({uuid, (uint16_t) a});
        this->characteristics_.back().descriptor_count++;
      }
      return;
    }
    case 's':
      rest >> a;
      return this->listener_->on_service_discovery_done(a);
    case 'r': {
      rest >> a >> b >> text;
      auto bytes = unhex(text);
      return this->listener_->on_read_result((uint16_t) a, bytes.data(), (uint16_t) bytes.size(), b);
    }
    case 'w':
      rest >> a >> b;
      return this->listener_->on_write_result((uint16_t) a, b);
    case 'n':
      rest >> a >> b >> c;
      return this->listener_->on_notify_state((uint16_t) a, b != 0, c);
    case 'd': {
      rest >> a >> text;
      auto bytes = unhex(text);
      return this->listener_->on_notify_data((uint16_t) a, bytes.data(), (uint16_t) bytes.size());
    }
    case 'p':
      rest >> a;
      return this->listener_->on_pairing_result(a);
    default:
      return;
  }
}

}  // namespace esphome::lab
