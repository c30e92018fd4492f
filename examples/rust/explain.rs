//! Run an explaining model and paint the map over a picture:
//!
//!     explain MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]
//!
//! TENSOR.f32 is the model's input as raw float32, CLASS an index or -1 (the default: the highest
//! score). The environment's ONNXRUNTIME_LIBRARY names libonnxruntime.so. No crates: onnxruntime by
//! dlopen, libonnxcam linked (docs/rust.md).
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::{env, fs, mem, process, ptr};

type Ptr = *mut c_void;
type Fail<T> = Result<T, String>;

#[rustfmt::skip]
#[link(name = "onnxcam")]
extern "C" {
    fn onnxcam_error_text(code: i32) -> *const c_char;
    fn onnxcam_gradcam(
        activation: *const f32, gradient: *const f32, raw: *mut f32, finished: *mut f32,
        summary: *mut f64, images: isize, channels: isize, positions: isize, targets: isize,
    ) -> i32;
    fn onnxcam_overlay_jet(
        map: *const f32, left: f64, top: f64, right: f64, bottom: f64, background: f64,
        picture: *const u8, picture_stride: isize, alpha: f64, bgr: i32, first: isize, last: isize,
        out: *mut u8, out_stride: isize, scratch: *mut u8, scratch_size: isize, map_height: isize,
        map_width: isize, height: isize, width: isize, channels: isize,
    ) -> i32;
    fn onnxcam_overlay_jet_scratch(
        map_height: isize, map_width: isize, height: isize, width: isize, channels: isize,
    ) -> isize;
}
extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> Ptr;
    fn dlsym(library: Ptr, name: *const c_char) -> Ptr;
}

/// onnxruntime's table of functions; the places are those of struct OrtApi in its C header.
struct Ort(*const Ptr);

/// Call the function at a place of the table, with the types of its arguments.
macro_rules! ort {
    ($ort:expr, $place:expr, $($value:expr => $kind:ty),*) => {{
        let function: extern "C" fn($($kind),*) -> Ptr = mem::transmute(*$ort.0.add($place));
        let status = function($($value),*);
        if status.is_null() { Ok(()) } else { Err($ort.message(status)) }
    }};
}

impl Ort {
    unsafe fn load(library: &str) -> Fail<Ort> {
        let found = dlopen(text(library).as_ptr(), 2);
        let symbol = if found.is_null() { found } else { dlsym(found, c"OrtGetApiBase".as_ptr()) };
        if symbol.is_null() {
            return Err(format!("'{library}' is not onnxruntime; set ONNXRUNTIME_LIBRARY"));
        }
        type GetApi = extern "C" fn(u32) -> *const Ptr;
        let base: extern "C" fn() -> *const GetApi = mem::transmute(symbol);
        let table = (*base())(17); // the version of the table; it only ever grows at its end
        if table.is_null() { Err(format!("'{library}' is too old")) } else { Ok(Ort(table)) }
    }

    unsafe fn message(&self, status: Ptr) -> String {
        let get: extern "C" fn(Ptr) -> *const c_char = mem::transmute(*self.0.add(2));
        CStr::from_ptr(get(status)).to_string_lossy().replace('\n', " ")
    }

    /// The shape that a tensor's description gives.
    unsafe fn shape(&self, info: Ptr) -> Fail<Vec<i64>> {
        let mut rank = 0;
        ort!(self, 61, info => Ptr, &mut rank => *mut usize)?;
        let mut shape = vec![0; rank];
        ort!(self, 62, info => Ptr, shape.as_mut_ptr() => *mut i64, rank => usize)?;
        Ok(shape)
    }

    /// The shape of the session's input (33) or output (34) of that number; open sides are -1.
    unsafe fn declared(&self, place: usize, session: Ptr, number: usize) -> Fail<Vec<i64>> {
        let (mut info, mut tensor) = (ptr::null_mut(), ptr::null_mut());
        ort!(self, place, session => Ptr, number => usize, &mut info => *mut Ptr)?;
        ort!(self, 55, info => Ptr, &mut tensor => *mut Ptr)?;
        self.shape(tensor)
    }

    unsafe fn tensor<T>(
        &self, memory: Ptr, data: &mut [T], shape: &[i64], kind: c_int,
    ) -> Fail<Ptr> {
        let (mut value, bytes) = (ptr::null_mut(), mem::size_of_val(data));
        ort!(self, 49, memory => Ptr, data.as_mut_ptr().cast() => Ptr, bytes => usize,
            shape.as_ptr() => *const i64, shape.len() => usize, kind => c_int,
            &mut value => *mut Ptr)?;
        Ok(value)
    }

    /// The numbers of a float32 result, and its shape.
    unsafe fn result(&self, value: Ptr) -> Fail<(&[f32], Vec<i64>)> {
        let (mut info, mut data) = (ptr::null_mut(), ptr::null_mut());
        ort!(self, 65, value => Ptr, &mut info => *mut Ptr)?;
        ort!(self, 51, value => Ptr, &mut data => *mut Ptr)?;
        let shape = self.shape(info)?;
        let count = shape.iter().product::<i64>() as usize;
        Ok((std::slice::from_raw_parts(data.cast(), count), shape))
    }
}

fn text(value: &str) -> CString {
    CString::new(value).unwrap_or_default()
}

fn check(code: i32) -> Fail<()> {
    if code == 0 {
        return Ok(());
    }
    let text = unsafe { CStr::from_ptr(onnxcam_error_text(code)) };
    Err(format!("libonnxcam: {}", text.to_string_lossy()))
}

fn read(name: &str) -> Fail<Vec<u8>> {
    fs::read(name).map_err(|error| format!("'{name}': {error}"))
}

/// Width, height and RGB pixels of a binary PPM of 8 bits, without comments.
fn read_ppm(name: &str) -> Fail<(usize, usize, Vec<u8>)> {
    let content = read(name)?;
    let mut at = 0;
    let mut word = || {
        at += content[at..].iter().take_while(|c| c.is_ascii_whitespace()).count();
        let start = at;
        at += content[at..].iter().take_while(|c| !c.is_ascii_whitespace()).count();
        String::from_utf8_lossy(&content[start..at]).into_owned()
    };
    let (magic, sides) = (word(), [word(), word(), word()].map(|side| side.parse().unwrap_or(0)));
    let pixels = content.get(at + 1..).unwrap_or(&[]).to_vec();
    let [width, height, most]: [usize; 3] = sides;
    let whole = width.checked_mul(height).and_then(|count| count.checked_mul(3));
    if magic != "P6" || most != 255 || pixels.is_empty() || whole != Some(pixels.len()) {
        return Err(format!("'{name}': expected a whole PPM (P6, 8 bits)"));
    }
    Ok((width, height, pixels))
}

/// The map of the model's answer, 0 to 1: height, width, values.
unsafe fn explain(model: &str, tensor: &str, class: i64) -> Fail<(isize, isize, Vec<f32>)> {
    let library = env::var("ONNXRUNTIME_LIBRARY").unwrap_or("libonnxruntime.so.1".into());
    let ort = Ort::load(&library)?;
    let mut made = [ptr::null_mut(); 6];
    let [environment, options, session, memory, allocator, metadata] = &mut made;
    ort!(ort, 3, 4 => c_int, c"explain".as_ptr() => *const c_char, environment => *mut Ptr)?;
    ort!(ort, 10, options => *mut Ptr)?;
    let path = text(model);
    ort!(ort, 7, *environment => Ptr, path.as_ptr() => *const c_char, *options => Ptr,
        session => *mut Ptr)?;
    ort!(ort, 69, 1 => c_int, 0 => c_int, memory => *mut Ptr)?;
    ort!(ort, 78, allocator => *mut Ptr)?;
    ort!(ort, 111, *session => Ptr, metadata => *mut Ptr)?;
    let (mut contract, mut input): (*mut c_char, *mut c_char) = (ptr::null_mut(), ptr::null_mut());
    ort!(ort, 116, *metadata => Ptr, *allocator => Ptr, c"onnxcam".as_ptr() => *const c_char,
        &mut contract => *mut *mut c_char)?;
    if contract.is_null() {
        return Err(format!("'{model}' is not an explaining file (it has no contract)"));
    }
    let classes: i64 = ort.declared(34, *session, 0)?[1..].iter().product();
    if class < -1 || (classes > 0 && class >= classes) {
        let last = classes - 1;
        return Err(format!("target {class}: expected 0 to {last}, or -1 for the highest score"));
    }
    let shape = ort.declared(33, *session, 0)?.iter().map(|&side| side.max(1)).collect::<Vec<_>>();
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap_or([0; 4]));
    let mut values: Vec<f32> = read(tensor)?.chunks(4).map(number).collect();
    if values.len() as i64 != shape.iter().product::<i64>() {
        return Err(format!("'{tensor}': expected float32 {shape:?}"));
    }
    ort!(ort, 36, *session => Ptr, 0 => usize, *allocator => Ptr, &mut input => *mut *mut c_char)?;
    let mut target = [class]; // onnxruntime reads it, and the values, where they lie
    let given = [
        ort.tensor(*memory, &mut values, &shape, 1)?,
        ort.tensor(*memory, &mut target, &[1], 7)?,
    ];
    let names = [input.cast_const(), c"cam_target".as_ptr()];
    let wanted = [c"cam_activation".as_ptr(), c"cam_gradient".as_ptr()];
    let mut results = [ptr::null_mut(); 2];
    ort!(ort, 9, *session => Ptr, ptr::null_mut() => Ptr, names.as_ptr() => *const *const c_char,
        given.as_ptr() => *const Ptr, 2 => usize, wanted.as_ptr() => *const *const c_char,
        2 => usize, results.as_mut_ptr() => *mut Ptr)?;
    let (activation, shape) = ort.result(results[0])?;
    let (gradient, _) = ort.result(results[1])?;
    let [1, channels, height, width] = shape[..] else {
        return Err(format!("expected an activation [1, C, h, w], got {shape:?}"));
    };
    let count = (height * width) as usize;
    let (mut raw, mut map, mut summary) = (vec![0.0; count], vec![0.0; count], [0.0; 4]);
    check(onnxcam_gradcam(activation.as_ptr(), gradient.as_ptr(), raw.as_mut_ptr(),
        map.as_mut_ptr(), summary.as_mut_ptr(), 1, channels as isize, count as isize, 1))?;
    Ok((height as isize, width as isize, map)) // the session's memory goes with the process
}

fn run(words: &[String]) -> Fail<()> {
    let [model, tensor, picture, out, class @ ..] = words else {
        return Err("expected MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]".into());
    };
    let class = class.first().map_or("-1", |word| word);
    let class = class.parse().map_err(|_| format!("class '{class}': expected an index"))?;
    let (width, height, mut pixels) = read_ppm(picture)?;
    let (w, h, stride) = (width as isize, height as isize, 3 * width as isize);
    unsafe {
        let (map_height, map_width, map) = explain(model, tensor, class)?;
        let size = onnxcam_overlay_jet_scratch(map_height, map_width, h, w, 3);
        let mut scratch = vec![0u8; size.max(0) as usize];
        let painted = pixels.as_mut_ptr(); // in place
        check(onnxcam_overlay_jet(map.as_ptr(), 0.0, 0.0, w as f64, h as f64, 0.0, painted, stride,
            0.4, 0, 0, h, painted, stride, scratch.as_mut_ptr(), size, map_height, map_width, h, w,
            3))?;
    }
    let content = [format!("P6\n{width} {height}\n255\n").as_bytes(), &pixels].concat();
    fs::write(out, content).map_err(|error| format!("'{out}': {error}"))
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Err(message) = run(&words) {
        eprintln!("explain: {message}");
        process::exit(2);
    }
}
