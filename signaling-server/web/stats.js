// From `RTCPeerConnection.getStats()` to the few figures that the page shows and judges by. Names
// are those of https://www.w3.org/TR/webrtc-stats/ where it has one. Pure.

/**
 * `report`: an `RTCStatsReport`; `previous`: the last summary or null, for the rates.
 *
 * `heard` only grows, and grows whenever anything at all arrives over the selected pair: media,
 * RTCP, data, or a STUN check.
 */
export function summarize(report, previous) {
  const all = [...report.values()];
  const byId = (id) => (id ? report.get(id) : undefined);
  const pair = selectedPair(all, byId);
  const local = byId(pair?.localCandidateId);
  const remote = byId(pair?.remoteCandidateId);
  const stream = (type, kind) => all.find((s) => s.type === type && s.kind === kind);
  const videoIn = stream("inbound-rtp", "video");
  const audioIn = stream("inbound-rtp", "audio");
  const videoOut = stream("outbound-rtp", "video");
  const transport = all.find((s) => s.type === "transport");
  const timestamp = pair?.timestamp ?? videoIn?.timestamp ?? performance.now();

  const bytesReceived = pair?.bytesReceived ?? 0;
  const bytesSent = pair?.bytesSent ?? 0;
  const packets = (videoIn?.packetsReceived ?? 0) + (audioIn?.packetsReceived ?? 0);
  const lost = (videoIn?.packetsLost ?? 0) + (audioIn?.packetsLost ?? 0);
  const seconds = previous ? (timestamp - previous.timestamp) / 1000 : 0;
  const rate = (now, then) => (seconds > 0 && now >= then ? ((now - then) * 8) / seconds : 0);
  const newPackets = previous ? packets - previous.packets : 0;
  const newLost = previous ? Math.max(0, lost - previous.lost) : 0;

  const summary = {
    timestamp,
    bytesReceived,
    bytesSent,
    packets,
    lost,
    heard: bytesReceived + (pair?.responsesReceived ?? 0) + (pair?.requestsReceived ?? 0),
    receivedBps: Math.round(rate(bytesReceived, previous?.bytesReceived ?? 0)),
    // Absent in Firefox.
    availableOutgoingBps: pair?.availableOutgoingBitrate ?? null,
    sentBps: Math.round(rate(bytesSent, previous?.bytesSent ?? 0)),
    // Smoothed, for one second has few packets and would flicker between words.
    lossRatio: smooth(previous?.lossRatio, newLost / Math.max(1, newLost + newPackets)),
    rttMs: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
    route: !local || !remote ? null : isRelay(local, remote) ? "relayed" : "direct",
    local: candidate(local),
    remote: candidate(remote),
    dtlsState: transport?.dtlsState ?? null,
    srtpCipher: transport?.srtpCipher ?? null,
    videoReceived: videoIn && {
      codec: codecName(byId(videoIn.codecId)),
      frameWidth: videoIn.frameWidth ?? 0,
      frameHeight: videoIn.frameHeight ?? 0,
      framesPerSecond: videoIn.framesPerSecond ?? 0,
      framesDecoded: videoIn.framesDecoded ?? 0,
      freezeCount: videoIn.freezeCount ?? 0,
      packetsLost: videoIn.packetsLost ?? 0,
    },
    videoSent: videoOut && {
      codec: codecName(byId(videoOut.codecId)),
      frameWidth: videoOut.frameWidth ?? 0,
      frameHeight: videoOut.frameHeight ?? 0,
      framesPerSecond: videoOut.framesPerSecond ?? 0,
      framesEncoded: videoOut.framesEncoded ?? 0,
      totalEncodeTime: videoOut.totalEncodeTime ?? 0,
      qualityLimitationReason: videoOut.qualityLimitationReason ?? null,
    },
    audioReceived: audioIn && {
      codec: codecName(byId(audioIn.codecId)),
      packetsReceived: audioIn.packetsReceived ?? 0,
      packetsLost: audioIn.packetsLost ?? 0,
      concealedSamples: audioIn.concealedSamples ?? 0,
    },
  };
  summary.quality = quality(summary);
  return summary;
}

/** Chromium and Safari name the pair in the transport; Firefox marks it itself. */
function selectedPair(all, byId) {
  const transport = all.find((s) => s.type === "transport" && s.selectedCandidatePairId);
  return (
    byId(transport?.selectedCandidatePairId) ??
    all.find((s) => s.type === "candidate-pair" && (s.selected || (s.nominated && s.state === "succeeded")))
  );
}

/** "good", "fair" or "poor", as a person in the call would say; null until there is a pair. */
function quality({ rttMs, lossRatio }) {
  if (rttMs === null) return null;
  if (rttMs < 150 && lossRatio < 0.02) return "good";
  if (rttMs < 400 && lossRatio < 0.08) return "fair";
  return "poor";
}

function candidate(stat) {
  if (!stat) return null;
  const { candidateType: type, protocol, address, port } = stat;
  return { type, protocol, address: address ? `${address}:${port}` : null };
}

const isRelay = (...ends) => ends.some((end) => end.candidateType === "relay");
const codecName = (codec) => codec?.mimeType?.split("/")[1] ?? null;
const smooth = (old, now) => (old === undefined ? now : old * 0.8 + now * 0.2);
