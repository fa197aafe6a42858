//! Video on the GPU: three one-channel textures and a fragment shader, so that no picture is
//! converted or copied to RGBA on the CPU. [`VideoView`] lives on the UI thread; the paint callback
//! runs on the thread that owns the OpenGL context (with eframe, the same).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eframe::egui_glow::{self, ShaderVersion};
use eframe::glow::{self, HasContext as _};
use egui::{Rect, Ui, Vec2};
use visavis_engine::{ColorMatrix, Size, VideoFrame, VideoSlot};

/// How a picture of another shape fills its rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// All of it is seen; the rest of the rectangle stays as it is.
    Contain,
    /// No bars; what sticks out is cut.
    Cover,
}

/// One stream's newest picture and where it lives on the GPU.
pub(crate) struct VideoView {
    slot: VideoSlot,
    size: Option<Size>,
    surface: Arc<Mutex<Surface>>,
}

#[derive(Default)]
struct Surface {
    pending: Option<VideoFrame>,
    gpu: Option<Gpu>,
    /// Said once; without OpenGL 2.0 there is no window at all.
    failed: bool,
}

impl VideoView {
    /// Shows what arrives in `slot`.
    pub(crate) fn new(slot: VideoSlot) -> Self {
        Self { slot, size: None, surface: Arc::default() }
    }

    /// Follows another slot, keeping textures.
    pub(crate) fn set_slot(&mut self, slot: VideoSlot) {
        self.slot = slot;
    }

    /// Takes the newest picture, if there is one. Once a pass.
    pub(crate) fn poll(&mut self) -> bool {
        let Some(frame) = self.slot.take() else { return false };
        self.size = Some(frame.buffer.size());
        lock(&self.surface).pending = Some(frame);
        true
    }

    /// Forgets the picture (a camera that was switched off must not leave a still behind).
    pub(crate) fn clear(&mut self) {
        self.slot.clear();
        self.size = None;
        lock(&self.surface).pending = None;
    }

    /// Size of the newest picture.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size
    }

    /// Paints the newest picture into `rect`, corners rounded by `radius` points.
    /// Returns where the picture lies, or `None` if there is none yet.
    pub(crate) fn paint(
        &self,
        ui: &Ui,
        rect: Rect,
        fit: Fit,
        mirrored: bool,
        radius: f32,
    ) -> Option<Rect> {
        let size = self.size?;
        let (target, crop) = place(rect, size, fit);
        let surface = Arc::clone(&self.surface);
        let params = Params { crop, mirrored, radius };
        let callback = egui_glow::CallbackFn::new(move |info, painter| {
            let px = info.viewport_in_pixels();
            let size_px = [px.width_px as f32, px.height_px as f32];
            lock(&surface).draw(painter.gl(), &params, size_px, info.pixels_per_point);
        });
        ui.painter().add(egui::PaintCallback { rect: target, callback: Arc::new(callback) });
        Some(target)
    }

    /// Frees the GPU's memory. Only where the OpenGL context is current.
    pub(crate) fn destroy(&mut self, gl: &glow::Context) {
        if let Some(gpu) = lock(&self.surface).gpu.take() {
            gpu.destroy(gl);
        }
    }
}

fn lock(surface: &Mutex<Surface>) -> MutexGuard<'_, Surface> {
    surface.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rectangle to draw into, and the share of the picture (across, down) that is seen.
fn place(rect: Rect, size: Size, fit: Fit) -> (Rect, Vec2) {
    let aspect = size.width_px.max(1) as f32 / size.height_px.max(1) as f32;
    let room = rect.width() / rect.height().max(1.0);
    match fit {
        Fit::Contain => {
            let inner = if room > aspect {
                egui::vec2(rect.height() * aspect, rect.height())
            } else {
                egui::vec2(rect.width(), rect.width() / aspect)
            };
            (Rect::from_center_size(rect.center(), inner), Vec2::splat(1.0))
        }
        Fit::Cover if room > aspect => (rect, egui::vec2(1.0, aspect / room)),
        Fit::Cover => (rect, egui::vec2(room / aspect, 1.0)),
    }
}

struct Params {
    crop: Vec2,
    mirrored: bool,
    radius: f32,
}

impl Surface {
    fn draw(&mut self, gl: &glow::Context, params: &Params, size_px: [f32; 2], ppp: f32) {
        if self.failed {
            return;
        }
        if self.gpu.is_none() {
            match Gpu::new(gl) {
                Ok(gpu) => self.gpu = Some(gpu),
                Err(why) => {
                    self.failed = true;
                    tracing::error!("video cannot be drawn: {why}");
                    return;
                }
            }
        }
        if let Some(gpu) = &mut self.gpu {
            if let Some(frame) = self.pending.take() {
                gpu.upload(gl, &frame);
            }
            gpu.draw(gl, params, size_px, ppp);
        }
    }
}

struct Gpu {
    /// Without and with rounded corners: the whole picture of a call pays nothing for them.
    programs: [Program; 2],
    vertices: glow::Buffer,
    vertex_array: Option<glow::VertexArray>,
    planes: [glow::Texture; 3],
    /// Size that the textures are allocated for.
    allocated: Option<Size>,
    /// How the colours of what they hold are to be read.
    matrix: ColorMatrix,
    /// One-channel format: `RED`, or `LUMINANCE` before OpenGL 3 and OpenGL ES 3.
    format: (i32, u32),
}

struct Program {
    id: glow::Program,
    corner: u32,
}

const VERTEX: &str = "
IN vec2 corner;
uniform vec2 crop;
uniform vec2 size_px;
uniform float mirror;
OUT vec2 at;
OUT vec2 from_centre_px;
void main() {
    at = (corner - 0.5) * crop + 0.5;
    at.x = mix(at.x, 1.0 - at.x, mirror);
    from_centre_px = (corner - 0.5) * size_px;
    gl_Position = vec4(corner.x * 2.0 - 1.0, 1.0 - corner.y * 2.0, 0.0, 1.0);
}";

/// Limited range by the picture's matrix (ITU-R BT.601-7 §2.5.3, BT.709-6 §3.2) to RGB; corners are cut by a signed distance.
const FRAGMENT: &str = "
IN vec2 at;
IN vec2 from_centre_px;
uniform sampler2D y_plane;
uniform sampler2D u_plane;
uniform sampler2D v_plane;
uniform vec2 size_px;
uniform float radius_px;
uniform vec4 chroma;
void main() {
    float y = 1.16438356 * (TEXTURE(y_plane, at).r - 0.0627451);
    float u = TEXTURE(u_plane, at).r - 0.50196078;
    float v = TEXTURE(v_plane, at).r - 0.50196078;
    vec3 rgb = clamp(vec3(
        y + chroma.x * v,
        y - chroma.y * u - chroma.z * v,
        y + chroma.w * u), 0.0, 1.0);
#if ROUNDED
    vec2 q = abs(from_centre_px) - 0.5 * size_px + radius_px;
    float outside = length(max(q, 0.0)) + min(max(q.x, q.y), 0.0) - radius_px;
    float alpha = clamp(0.5 - outside, 0.0, 1.0);
    COLOUR = vec4(rgb * alpha, alpha);
#else
    COLOUR = vec4(rgb, 1.0);
#endif
}";

impl Program {
    fn new(gl: &glow::Context, version: ShaderVersion, rounded: bool) -> Result<Self, String> {
        let modern = version.is_new_shader_interface();
        let header = |fragment: bool| {
            let mut head = version.version_declaration().to_owned();
            if version.is_embedded() {
                head.push_str("precision highp float;\n");
            }
            head.push_str(match (modern, fragment) {
                (true, true) => {
                    "#define IN in\n#define TEXTURE texture\nout vec4 colour;\n#define COLOUR colour\n"
                }
                (true, false) => "#define IN in\n#define OUT out\n",
                (false, true) => {
                    "#define IN varying\n#define TEXTURE texture2D\n#define COLOUR gl_FragColor\n"
                }
                (false, false) => "#define IN attribute\n#define OUT varying\n",
            });
            head.push_str(if rounded { "#define ROUNDED 1\n" } else { "#define ROUNDED 0\n" });
            head
        };
        // SAFETY: the context is current (paint callback), and every object is made here.
        unsafe {
            let id = gl.create_program()?;
            for (kind, source) in [
                (glow::VERTEX_SHADER, header(false) + VERTEX),
                (glow::FRAGMENT_SHADER, header(true) + FRAGMENT),
            ] {
                let shader = gl.create_shader(kind)?;
                gl.shader_source(shader, &source);
                gl.compile_shader(shader);
                if !gl.get_shader_compile_status(shader) {
                    return Err(gl.get_shader_info_log(shader));
                }
                gl.attach_shader(id, shader);
                gl.delete_shader(shader);
            }
            gl.link_program(id);
            if !gl.get_program_link_status(id) {
                return Err(gl.get_program_info_log(id));
            }
            let corner = gl.get_attrib_location(id, "corner").ok_or("no attribute")?;
            Ok(Self { id, corner })
        }
    }
}

impl Gpu {
    fn new(gl: &glow::Context) -> Result<Self, String> {
        let version = ShaderVersion::get(gl);
        let modern = version.is_new_shader_interface();
        let programs = [Program::new(gl, version, false)?, Program::new(gl, version, true)?];
        // SAFETY: the context is current (paint callback), and every object is made here.
        unsafe {
            let vertices = gl.create_buffer()?;
            gl.bind_buffer(glow::ARRAY_BUFFER, Some(vertices));
            let strip: [f32; 8] = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
            let bytes: Vec<u8> = strip.iter().flat_map(|v| v.to_ne_bytes()).collect();
            gl.buffer_data_u8_slice(glow::ARRAY_BUFFER, &bytes, glow::STATIC_DRAW);
            gl.bind_buffer(glow::ARRAY_BUFFER, None);
            let vertex_array = if modern { Some(gl.create_vertex_array()?) } else { None };
            let planes = [gl.create_texture()?, gl.create_texture()?, gl.create_texture()?];
            let format = if modern {
                (glow::R8 as i32, glow::RED)
            } else {
                (glow::LUMINANCE as i32, glow::LUMINANCE)
            };
            Ok(Self {
                programs,
                vertices,
                vertex_array,
                planes,
                allocated: None,
                matrix: ColorMatrix::default(),
                format,
            })
        }
    }

    fn upload(&mut self, gl: &glow::Context, frame: &VideoFrame) {
        let size = frame.buffer.size();
        let half = (size.width_px.div_ceil(2), size.height_px.div_ceil(2));
        let full = (size.width_px, size.height_px);
        let fresh = self.allocated != Some(size);
        // SAFETY: the context is current; each plane holds exactly width * height bytes, packed
        // (I420Buffer's invariant), which is what UNPACK_ALIGNMENT 1 makes OpenGL read.
        unsafe {
            gl.pixel_store_i32(glow::UNPACK_ALIGNMENT, 1);
            for ((texture, data), (w, h)) in
                self.planes.iter().zip(frame.buffer.planes()).zip([full, half, half])
            {
                gl.bind_texture(glow::TEXTURE_2D, Some(*texture));
                let pixels = glow::PixelUnpackData::Slice(Some(data));
                let (w, h) = (w as i32, h as i32);
                if fresh {
                    for (name, value) in [
                        (glow::TEXTURE_WRAP_S, glow::CLAMP_TO_EDGE),
                        (glow::TEXTURE_WRAP_T, glow::CLAMP_TO_EDGE),
                    ] {
                        gl.tex_parameter_i32(glow::TEXTURE_2D, name, value as i32);
                    }
                    let (internal, format) = self.format;
                    gl.tex_image_2d(
                        glow::TEXTURE_2D,
                        0,
                        internal,
                        w,
                        h,
                        0,
                        format,
                        glow::UNSIGNED_BYTE,
                        pixels,
                    );
                } else {
                    gl.tex_sub_image_2d(
                        glow::TEXTURE_2D,
                        0,
                        0,
                        0,
                        w,
                        h,
                        self.format.1,
                        glow::UNSIGNED_BYTE,
                        pixels,
                    );
                }
            }
            gl.bind_texture(glow::TEXTURE_2D, None);
        }
        self.allocated = Some(size);
        self.matrix = frame.buffer.matrix();
    }

    fn draw(&self, gl: &glow::Context, params: &Params, size_px: [f32; 2], ppp: f32) {
        let Some(size) = self.allocated else { return };
        let program = &self.programs[usize::from(params.radius > 0.0)];
        // Pixel for pixel there is nothing to interpolate; chroma always has half the pixels.
        let exact = [size.width_px as f32, size.height_px as f32] == size_px;
        let luma_filter = if exact { glow::NEAREST } else { glow::LINEAR };
        // SAFETY: the context is current and owns all objects; egui has set viewport, scissor and
        // premultiplied blending, and restores the rest of its own state after a callback.
        unsafe {
            gl.use_program(Some(program.id));
            let at = |name| gl.get_uniform_location(program.id, name);
            for (unit, (name, texture)) in
                ["y_plane", "u_plane", "v_plane"].iter().zip(self.planes).enumerate()
            {
                gl.active_texture(glow::TEXTURE0 + unit as u32);
                gl.bind_texture(glow::TEXTURE_2D, Some(texture));
                gl.uniform_1_i32(at(name).as_ref(), unit as i32);
                let filter = if unit == 0 { luma_filter } else { glow::LINEAR };
                for which in [glow::TEXTURE_MIN_FILTER, glow::TEXTURE_MAG_FILTER] {
                    gl.tex_parameter_i32(glow::TEXTURE_2D, which, filter as i32);
                }
            }
            gl.uniform_2_f32(at("crop").as_ref(), params.crop.x, params.crop.y);
            gl.uniform_2_f32(at("size_px").as_ref(), size_px[0], size_px[1]);
            gl.uniform_1_f32(at("radius_px").as_ref(), params.radius * ppp);
            let [rv, gu, gv, bu] = match self.matrix {
                ColorMatrix::Bt601 => [1.596_026_8, 0.391_762_3, 0.812_967_6, 2.017_232_1],
                ColorMatrix::Bt709 => [1.792_741_1, 0.213_248_6, 0.532_909_3, 2.112_401_8],
            };
            gl.uniform_4_f32(at("chroma").as_ref(), rv, gu, gv, bu);
            gl.uniform_1_f32(at("mirror").as_ref(), f32::from(u8::from(params.mirrored)));
            if self.vertex_array.is_some() {
                gl.bind_vertex_array(self.vertex_array);
            }
            gl.bind_buffer(glow::ARRAY_BUFFER, Some(self.vertices));
            gl.enable_vertex_attrib_array(program.corner);
            gl.vertex_attrib_pointer_f32(program.corner, 2, glow::FLOAT, false, 8, 0);
            gl.draw_arrays(glow::TRIANGLE_STRIP, 0, 4);
            gl.disable_vertex_attrib_array(program.corner);
            gl.bind_buffer(glow::ARRAY_BUFFER, None);
            if self.vertex_array.is_some() {
                gl.bind_vertex_array(None);
            }
            gl.active_texture(glow::TEXTURE0);
        }
    }

    fn destroy(self, gl: &glow::Context) {
        // SAFETY: the caller holds the current context that made these objects.
        unsafe {
            for program in self.programs {
                gl.delete_program(program.id);
            }
            gl.delete_buffer(self.vertices);
            if let Some(array) = self.vertex_array {
                gl.delete_vertex_array(array);
            }
            for texture in self.planes {
                gl.delete_texture(texture);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_keeps_its_shape() {
        let room = Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(1600.0, 800.0));
        let (target, crop) = place(room, Size::new(1280, 720), Fit::Contain);
        assert!((target.width() / target.height() - 16.0 / 9.0).abs() < 1e-3);
        assert_eq!((target.center(), crop), (room.center(), Vec2::splat(1.0)));
        let (target, crop) = place(room, Size::new(640, 480), Fit::Cover);
        assert_eq!(target, room);
        assert!((crop.y - (4.0 / 3.0) / 2.0).abs() < 1e-3 && crop.x == 1.0);
    }
}
