//! Pixels from the server: through shared memory, or over the socket where there is none in common.
//!
//! The server writes into a segment that it made itself and whose file it has handed over (MIT-SHM 1.2). It is read as
//! a file: that copies as fast as memory does, and needs no mapping whose contents change behind our back.

use super::area::Area;
use super::capture::Fault;
use super::frame::Frame;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat, ImageOrder, Visualid};
use x11rb::rust_connection::RustConnection;

/// Every bit of a pixel.
const ALL_PLANES: u32 = !0;

/// The version of MIT-SHM that hands files over.
const SHM_VERSION: (u16, u16) = (1, 2);

/// In which byte of a pixel each colour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    blue: usize,
    green: usize,
    red: usize,
}

impl Layout {
    const BGR: Self = Self { blue: 0, green: 1, red: 2 };

    /// Of drawables of this depth, shown with this visual.
    pub(super) fn of(
        conn: &RustConnection,
        screen: usize,
        depth: u8,
        visual: Visualid,
    ) -> Result<Self, Fault> {
        let setup = conn.setup();
        let unfit = || {
            Fault::Fatal(format!(
                "this display has colours of {depth} bits; 24 bits can be captured (such as Xvfb -screen 0 1280x720x24)"
            ))
        };
        let format = setup.pixmap_formats.iter().find(|format| format.depth == depth).ok_or_else(unfit)?;
        let visuals = setup.roots[screen].allowed_depths.iter().flat_map(|depth| &depth.visuals);
        let visual = visuals.into_iter().find(|other| other.visual_id == visual).ok_or_else(unfit)?;
        if format.bits_per_pixel != 32 {
            return Err(unfit());
        }
        let byte = |mask: u32| {
            let whole =
                mask == 0xff << mask.trailing_zeros().min(24) && mask.trailing_zeros().is_multiple_of(8);
            let little = mask.trailing_zeros() as usize / 8;
            let at = if setup.image_byte_order == ImageOrder::LSB_FIRST { little } else { 3 - little.min(3) };
            whole.then_some(at).ok_or_else(unfit)
        };
        Ok(Self {
            blue: byte(visual.blue_mask)?,
            green: byte(visual.green_mask)?,
            red: byte(visual.red_mask)?,
        })
    }

    /// Puts the colours where a frame has them.
    fn settle(self, pixels: &mut [[u8; 4]]) {
        if self != Self::BGR {
            for pixel in pixels {
                *pixel = [pixel[self.blue], pixel[self.green], pixel[self.red], 0];
            }
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Grabber {
    way: Way,
    scratch: Vec<[u8; 4]>,
}

#[derive(Debug)]
enum Way {
    Socket,
    /// Shared memory, once it is known how much.
    Unsized,
    Shared {
        segment: shm::Seg,
        file: File,
    },
}

impl Grabber {
    pub(super) fn new(conn: &RustConnection) -> Result<Self, Fault> {
        let shared = conn.extension_information(shm::X11_EXTENSION_NAME)?.is_some() && {
            let version = conn.shm_query_version()?.reply()?;
            (version.major_version, version.minor_version) >= SHM_VERSION
        };
        let way = if shared { Way::Unsized } else { Way::Socket };
        Ok(Self { way, scratch: Vec::new() })
    }

    pub(super) const fn describe(&self) -> &'static str {
        match self.way {
            Way::Socket => "socket",
            Way::Unsized | Way::Shared { .. } => "shared memory",
        }
    }

    /// Makes room for frames of this size.
    pub(super) fn resize(&mut self, conn: &RustConnection, size: (usize, usize)) -> Result<(), Fault> {
        match std::mem::replace(&mut self.way, Way::Unsized) {
            Way::Socket => {
                self.way = Way::Socket;
                return Ok(());
            }
            Way::Unsized => {}
            Way::Shared { segment, .. } => conn.shm_detach(segment)?.ignore_error(),
        }
        let bytes = u32::try_from(size.0 * size.1 * 4).unwrap_or(u32::MAX);
        let segment = conn.generate_id()?;
        // A server on another host, or in a container, answers with an error.
        self.way = match conn.shm_create_segment(segment, bytes, false)?.reply() {
            Ok(reply) => Way::Shared { segment, file: File::from(reply.shm_fd) },
            Err(error) => {
                log::info!(
                    "screen: no memory in common with the X server ({error}); pixels come over the socket"
                );
                Way::Socket
            }
        };
        Ok(())
    }

    /// Reads `area` of `frame`, whose upper left corner is at `origin` of `drawable`.
    pub(super) fn grab(
        &mut self,
        conn: &RustConnection,
        drawable: u32,
        area: Area,
        origin: (i32, i32),
        layout: Layout,
        frame: &mut Frame,
    ) -> Result<(), Fault> {
        let at = area.moved(origin);
        let (x, y, (w, h)) = (at.x as i16, at.y as i16, area.size());
        let format = ImageFormat::Z_PIXMAP;
        match &self.way {
            Way::Socket | Way::Unsized => {
                let image =
                    conn.get_image(format, drawable, x, y, w as u16, h as u16, ALL_PLANES)?.reply()?;
                let pixels = image.data.as_chunks::<4>().0;
                for (row, from) in frame.rows_mut(area).zip(pixels.chunks_exact(w)) {
                    row.copy_from_slice(from);
                }
            }
            Way::Shared { segment, file } => {
                conn.shm_get_image(
                    drawable,
                    x,
                    y,
                    w as u16,
                    h as u16,
                    ALL_PLANES,
                    format.into(),
                    *segment,
                    0,
                )?
                .reply()?;
                let lost = |error| Fault::Fatal(format!("memory shared with the X server is gone: {error}"));
                if let Some(bytes) = frame.whole_rows_mut(area) {
                    file.read_exact_at(bytes, 0).map_err(lost)?;
                } else {
                    self.scratch.resize(w * h, [0; 4]);
                    file.read_exact_at(self.scratch.as_flattened_mut(), 0).map_err(lost)?;
                    for (row, from) in frame.rows_mut(area).zip(self.scratch.chunks_exact(w)) {
                        row.copy_from_slice(from);
                    }
                }
            }
        }
        for row in frame.rows_mut(area) {
            layout.settle(row);
        }
        Ok(())
    }
}
