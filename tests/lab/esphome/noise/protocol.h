/* The functions of the noise-c library that the API component of ESPHome calls, for the one suite that it uses
 * (Noise_NNpsk0_25519_ChaChaPoly_SHA256, as responder), because that library is in no package registry. Follows the
 * Noise specification, revision 34, with the arithmetic of libsodium. The numbers behind the names are free: none of
 * them is transmitted. */
#ifndef LAB_NOISE_PROTOCOL_H
#define LAB_NOISE_PROTOCOL_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum {
  NOISE_ERROR_NONE = 0, NOISE_ERROR_NO_MEMORY = 1, NOISE_ERROR_UNKNOWN_ID, NOISE_ERROR_UNKNOWN_NAME,
  NOISE_ERROR_MAC_FAILURE, NOISE_ERROR_NOT_APPLICABLE, NOISE_ERROR_SYSTEM,
  NOISE_ERROR_REMOTE_KEY_REQUIRED, NOISE_ERROR_LOCAL_KEY_REQUIRED, NOISE_ERROR_PSK_REQUIRED,
  NOISE_ERROR_INVALID_LENGTH, NOISE_ERROR_INVALID_PARAM, NOISE_ERROR_INVALID_STATE,
  NOISE_ERROR_INVALID_NONCE, NOISE_ERROR_INVALID_PRIVATE_KEY, NOISE_ERROR_INVALID_PUBLIC_KEY,
  NOISE_ERROR_INVALID_FORMAT, NOISE_ERROR_INVALID_SIGNATURE,
};
enum { NOISE_ACTION_NONE, NOISE_ACTION_WRITE_MESSAGE, NOISE_ACTION_READ_MESSAGE, NOISE_ACTION_FAILED,
       NOISE_ACTION_SPLIT, NOISE_ACTION_COMPLETE };
enum { NOISE_ROLE_INITIATOR = 1, NOISE_ROLE_RESPONDER = 2 };
enum { NOISE_PREFIX_STANDARD = 1, NOISE_PATTERN_NN = 1, NOISE_MODIFIER_PSK0 = 1, NOISE_DH_NONE = 0,
       NOISE_DH_CURVE25519 = 1, NOISE_CIPHER_CHACHAPOLY = 1, NOISE_HASH_SHA256 = 1 };

typedef struct {
  int prefix_id, pattern_id, modifier_ids[4], dh_id, cipher_id, hash_id, hybrid_id, reserved[4];
} NoiseProtocolId;
typedef struct { uint8_t *data; size_t size, max_size; } NoiseBuffer;
typedef struct NoiseCipherState_s NoiseCipherState;
typedef struct NoiseHandshakeState_s NoiseHandshakeState;

#define noise_buffer_init(b) ((b).data = NULL, (b).size = (b).max_size = 0)
#define noise_buffer_set_inout(b, p, n, max) ((b).data = (p), (b).size = (n), (b).max_size = (max))
#define noise_buffer_set_input(b, p, n) noise_buffer_set_inout(b, p, n, n)
#define noise_buffer_set_output(b, p, n) noise_buffer_set_inout(b, p, 0, n)

int noise_handshakestate_new_by_id(NoiseHandshakeState **, const NoiseProtocolId *, int role);
int noise_handshakestate_set_pre_shared_key(NoiseHandshakeState *, const uint8_t *, size_t);
int noise_handshakestate_set_prologue(NoiseHandshakeState *, const void *, size_t);
int noise_handshakestate_set_local_ephemeral(NoiseHandshakeState *, const uint8_t *, size_t, const uint8_t *, size_t);
int noise_handshakestate_start(NoiseHandshakeState *);
int noise_handshakestate_get_action(const NoiseHandshakeState *);
int noise_handshakestate_read_message(NoiseHandshakeState *, NoiseBuffer *, NoiseBuffer *payload);
int noise_handshakestate_write_message(NoiseHandshakeState *, NoiseBuffer *, const NoiseBuffer *payload);
int noise_handshakestate_split(NoiseHandshakeState *, NoiseCipherState **send, NoiseCipherState **receive);
int noise_handshakestate_free(NoiseHandshakeState *);
int noise_cipherstate_encrypt(NoiseCipherState *, NoiseBuffer *);
int noise_cipherstate_decrypt(NoiseCipherState *, NoiseBuffer *);
size_t noise_cipherstate_get_mac_length(const NoiseCipherState *);
int noise_cipherstate_free(NoiseCipherState *);

/* The caller's: ESPHome defines it. */
void noise_rand_bytes(void *, size_t);

#ifdef __cplusplus
}
#endif
#endif
