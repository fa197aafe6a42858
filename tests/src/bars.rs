//! Reading the colour bars that test cameras draw.

use visavis_media::I420Buffer;

/// Mean Y, U and V in the middle of each of eight vertical bars, at the bottom of the picture,
/// where `vivid` writes no text. The picture is at least 64 pixels wide and 32 high.
pub fn bars(picture: &I420Buffer) -> Vec<[u8; 3]> {
    let size = picture.size();
    let [y, u, v] = picture.planes();
    let mean = |plane: &[u8], stride: usize, x: usize, row: usize| {
        let sum: u32 = (0..4)
            .flat_map(|r| (0..4).map(move |c| (r, c)))
            .map(|(r, c)| u32::from(plane[(row + r) * stride + x + c]))
            .sum();
        (sum / 16) as u8
    };
    (0..8_usize)
        .map(|bar| {
            let x = size.width_px as usize * (2 * bar + 1) / 16;
            let row = size.height_px as usize - 8;
            let (cx, crow) = (x / 2, row / 2);
            [
                mean(y, picture.luma_stride(), x, row),
                mean(u, picture.chroma_stride(), cx, crow),
                mean(v, picture.chroma_stride(), cx, crow),
            ]
        })
        .collect()
}
