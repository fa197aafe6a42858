// libvpx behind a few functions of fixed layout: the layouts and ABI versions of its own structs change with its version,
// and its headers know them. What the settings are, and why, stands in src/codec/vpx.rs, which has the same two structs.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <vpx/vp8cx.h>
#include <vpx/vp8dx.h>
#include <vpx/vpx_decoder.h>
#include <vpx/vpx_encoder.h>

typedef struct {
  int32_t vp9;
  uint32_t width, height;
  uint32_t threads;
  uint32_t timebase_hz;
  uint32_t kbps;
  uint32_t min_quantizer, max_quantizer;
  uint32_t undershoot_pct, overshoot_pct;
  uint32_t buffer_ms, buffer_initial_ms, buffer_optimal_ms;
  uint32_t max_intra_pct;
  int32_t cpu_used;
  uint32_t static_threshold;
  uint32_t screen;
  uint32_t tile_columns_log2;
} visavis_vpx_settings;

typedef struct {
  const uint8_t *planes[3];
  int32_t strides[3];
  uint32_t width, height;
  int32_t color_space, full_range;
} visavis_vpx_picture;

typedef struct {
  vpx_codec_ctx_t codec;
  vpx_codec_enc_cfg_t config;
  vpx_codec_iter_t packets;
} visavis_vpx_encoder;

void visavis_vpx_encoder_free(visavis_vpx_encoder *encoder) {
  if (!encoder) return;
  vpx_codec_destroy(&encoder->codec);
  free(encoder);
}

visavis_vpx_encoder *visavis_vpx_encoder_new(const visavis_vpx_settings *s, int32_t *code) {
  vpx_codec_iface_t *interface = s->vp9 ? vpx_codec_vp9_cx() : vpx_codec_vp8_cx();
  visavis_vpx_encoder *encoder = calloc(1, sizeof *encoder);
  vpx_codec_enc_cfg_t *c;
  vpx_codec_err_t error;
  if (!encoder) {
    *code = VPX_CODEC_MEM_ERROR;
    return NULL;
  }
  c = &encoder->config;
  error = vpx_codec_enc_config_default(interface, c, 0);
  if (error != VPX_CODEC_OK) {
    *code = error;
    free(encoder);
    return NULL;
  }
  c->g_w = s->width;
  c->g_h = s->height;
  c->g_threads = s->threads;
  c->g_timebase.num = 1;
  c->g_timebase.den = (int)s->timebase_hz;
  c->g_lag_in_frames = 0;
  c->g_pass = VPX_RC_ONE_PASS;
  c->g_error_resilient = 0;
  c->rc_dropframe_thresh = 0;
  c->rc_resize_allowed = 0;
  c->rc_end_usage = VPX_CBR;
  c->rc_target_bitrate = s->kbps;
  c->rc_min_quantizer = s->min_quantizer;
  c->rc_max_quantizer = s->max_quantizer;
  c->rc_undershoot_pct = s->undershoot_pct;
  c->rc_overshoot_pct = s->overshoot_pct;
  c->rc_buf_sz = s->buffer_ms;
  c->rc_buf_initial_sz = s->buffer_initial_ms;
  c->rc_buf_optimal_sz = s->buffer_optimal_ms;
  c->kf_mode = VPX_KF_DISABLED;

  error = vpx_codec_enc_init(&encoder->codec, interface, c, 0);
  if (error != VPX_CODEC_OK) {
    *code = error;
    free(encoder);
    return NULL;
  }
#define SET(control, value)                                                        \
  if (error == VPX_CODEC_OK) error = vpx_codec_control(&encoder->codec, control, value)
  SET(VP8E_SET_CPUUSED, s->cpu_used);
  SET(VP8E_SET_STATIC_THRESHOLD, s->static_threshold);
  SET(VP8E_SET_MAX_INTRA_BITRATE_PCT, s->max_intra_pct);
  SET(VP8E_SET_ENABLEAUTOALTREF, 0);
  if (s->vp9) {
    SET(VP9E_SET_NOISE_SENSITIVITY, 0);
    SET(VP9E_SET_AQ_MODE, 3);
    SET(VP9E_SET_ROW_MT, 1);
    SET(VP9E_SET_TILE_COLUMNS, (int)s->tile_columns_log2);
    SET(VP9E_SET_FRAME_PARALLEL_DECODING, 0);
    SET(VP9E_SET_GF_CBR_BOOST_PCT, 0);
    SET(VP9E_SET_TUNE_CONTENT, s->screen ? VP9E_CONTENT_SCREEN : VP9E_CONTENT_DEFAULT);
    SET(VP9E_SET_COLOR_SPACE, VPX_CS_BT_601);
    SET(VP9E_SET_COLOR_RANGE, VPX_CR_STUDIO_RANGE);
  } else {
    SET(VP8E_SET_NOISE_SENSITIVITY, 0);
    SET(VP8E_SET_TOKEN_PARTITIONS, VP8_ONE_TOKENPARTITION);
    SET(VP8E_SET_GF_CBR_BOOST_PCT, 0);
    SET(VP8E_SET_SCREEN_CONTENT_MODE, s->screen ? 1u : 0u);
  }
#undef SET
  if (error != VPX_CODEC_OK) {
    *code = error;
    visavis_vpx_encoder_free(encoder);
    return NULL;
  }
  return encoder;
}

int32_t visavis_vpx_encoder_set_rate(visavis_vpx_encoder *encoder, uint32_t kbps, uint32_t max_intra_pct) {
  vpx_codec_err_t error;
  encoder->config.rc_target_bitrate = kbps;
  error = vpx_codec_enc_config_set(&encoder->codec, &encoder->config);
  if (error == VPX_CODEC_OK) error = vpx_codec_control(&encoder->codec, VP8E_SET_MAX_INTRA_BITRATE_PCT, max_intra_pct);
  return error;
}

int32_t visavis_vpx_encoder_encode(visavis_vpx_encoder *encoder, const visavis_vpx_picture *picture, int64_t at,
                                   uint64_t duration, int32_t keyframe) {
  vpx_image_t image;
  int plane;
  // The encoder only reads the planes; its interface knows no const.
  if (!vpx_img_wrap(&image, VPX_IMG_FMT_I420, picture->width, picture->height, 1, (unsigned char *)picture->planes[0]))
    return VPX_CODEC_INVALID_PARAM;
  for (plane = 0; plane < 3; plane++) {
    image.planes[plane] = (unsigned char *)picture->planes[plane];
    image.stride[plane] = picture->strides[plane];
  }
  encoder->packets = NULL;
  return vpx_codec_encode(&encoder->codec, &image, at, (unsigned long)duration, keyframe ? VPX_EFLAG_FORCE_KF : 0,
                          VPX_DL_REALTIME);
}

// The next piece of what the last call of `encode` made, valid until the next one. 0: there is no more.
int32_t visavis_vpx_encoder_packet(visavis_vpx_encoder *encoder, const uint8_t **data, size_t *length, int32_t *keyframe) {
  const vpx_codec_cx_pkt_t *packet;
  while ((packet = vpx_codec_get_cx_data(&encoder->codec, &encoder->packets))) {
    if (packet->kind != VPX_CODEC_CX_FRAME_PKT) continue;
    *data = packet->data.frame.buf;
    *length = packet->data.frame.sz;
    *keyframe = (packet->data.frame.flags & VPX_FRAME_IS_KEY) != 0;
    return 1;
  }
  return 0;
}

void visavis_vpx_decoder_free(vpx_codec_ctx_t *decoder) {
  if (!decoder) return;
  vpx_codec_destroy(decoder);
  free(decoder);
}

vpx_codec_ctx_t *visavis_vpx_decoder_new(int32_t vp9, uint32_t threads, int32_t *code) {
  vpx_codec_iface_t *interface = vp9 ? vpx_codec_vp9_dx() : vpx_codec_vp8_dx();
  vpx_codec_dec_cfg_t config = { threads, 0, 0 };
  vpx_codec_ctx_t *decoder = calloc(1, sizeof *decoder);
  if (!decoder) {
    *code = VPX_CODEC_MEM_ERROR;
    return NULL;
  }
  *code = vpx_codec_dec_init(decoder, interface, &config, 0);
  if (*code != VPX_CODEC_OK) {
    free(decoder);
    return NULL;
  }
  return decoder;
}

// Decodes one coded picture. What it shows, if anything, is in `picture`, valid until the next call; `planes[0]` is null if
// there is nothing. An error also if any of it is damaged.
int32_t visavis_vpx_decoder_decode(vpx_codec_ctx_t *decoder, const uint8_t *data, uint32_t length,
                                   visavis_vpx_picture *picture) {
  vpx_codec_iter_t pictures = NULL;
  vpx_image_t *image;
  int plane, corrupted = 0;
  vpx_codec_err_t error = vpx_codec_decode(decoder, data, length, NULL, 0);
  memset(picture, 0, sizeof *picture);
  if (error != VPX_CODEC_OK) return error;
  error = vpx_codec_control(decoder, VP8D_GET_FRAME_CORRUPTED, &corrupted);
  if (error != VPX_CODEC_OK) return error;
  if (corrupted) return VPX_CODEC_CORRUPT_FRAME;
  while ((image = vpx_codec_get_frame(decoder, &pictures))) {
    if (image->fmt != VPX_IMG_FMT_I420 || image->bit_depth != 8) return VPX_CODEC_UNSUP_FEATURE;
    for (plane = 0; plane < 3; plane++) {
      picture->planes[plane] = image->planes[plane];
      picture->strides[plane] = image->stride[plane];
    }
    picture->width = image->d_w;
    picture->height = image->d_h;
    picture->color_space = image->cs;
    picture->full_range = image->range == VPX_CR_FULL_RANGE;
  }
  return VPX_CODEC_OK;
}

