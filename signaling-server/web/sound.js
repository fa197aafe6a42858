// What descriptions say of Opus (RFC 7587 §6.1). libwebrtc decodes stereo if its own description says
// `stereo=1`, and sends stereo, whatever the microphone is, if the other side's does.

const MUSIC_BPS = 128_000;

/**
 * What Opus gets of `availableBps`: a quarter with the headers of 50 packets a second, in steps, so that
 * the encoder is not set anew each second.
 */
export function musicBps(availableBps) {
  const steps = [128_000, 96_000, 64_000, 48_000, 32_000];
  return steps.find((bps) => bps + HEADERS_BPS <= availableBps / 4) ?? 24_000;
}

const HEADERS_BPS = 27_200;

/** The own description: stereo is welcome, and may come. */
export function withStereo({ type, sdp }) {
  return { type, sdp: changeOpus(sdp, (parameters) => parameters.set("stereo", "1").set("sprop-stereo", "1")) };
}

/**
 * The other side's description as if it had asked for what we send: music with both channels, without
 * pauses and without in-band FEC, which only speech has; or a voice, which two channels would only make
 * more expensive. Copies (RED), of which libwebrtc always sends one, are for the voice: they would make
 * 256 kbps of the music's 128.
 */
export function withSound({ type, sdp }, isMusic) {
  const changed = changeOpus(sdp, (parameters) => {
    if (!isMusic) return parameters.delete("stereo");
    // Less than 128 kbps is its own wish; whoever wants mono gets it.
    const most = Number(parameters.get("maxaveragebitrate") ?? MUSIC_BPS);
    parameters.set("maxaveragebitrate", String(Math.min(most || MUSIC_BPS, MUSIC_BPS)));
    parameters.delete("usedtx");
    parameters.delete("useinbandfec");
  });
  return { type, sdp: isMusic ? withOpusFirst(changed) : changed };
}

/** libwebrtc sends with the first format. */
function withOpusFirst(sdp) {
  const sections = sdp.split(/^(?=m=)/m).map((section) => {
    const number = opusNumber(section);
    return section.replace(/^(m=audio \S+ \S+)((?: \d+)+)/, (line, start, formats) => {
      if (!number) return line;
      const others = formats.trim().split(" ").filter((format) => format !== number);
      return [start, number, ...others].join(" ");
    });
  });
  return sections.join("");
}

function opusNumber(section) {
  return section.startsWith("m=audio") && /^a=rtpmap:(\d+) opus\/48000/im.exec(section)?.[1];
}

function changeOpus(sdp, change) {
  const sections = sdp.split(/^(?=m=)/m).map((section) => {
    const number = opusNumber(section);
    if (!number) return section;
    const line = new RegExp(`^a=fmtp:${number} ([^\\r\\n]*)`, "m");
    return section.replace(line, (_, text) => {
      const pairs = text.split(";").map((pair) => pair.trim()).filter(Boolean);
      const parameters = new Map(pairs.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
      change(parameters);
      const words = [...parameters].map(([key, value]) => (value === undefined ? key : `${key}=${value}`));
      return `a=fmtp:${number} ${words.join(";") || "minptime=10"}`;
    });
  });
  return sections.join("");
}
