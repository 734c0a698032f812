//! Typed views of decoded embeddings.

use half::{bf16, f16};

use crate::config::BinaryType;

/// The values of some rows' embeddings, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    I8(&'a [i8]),
    U8(&'a [u8]),
    /// Little-endian bytes of any alignment.
    Bytes(&'a [u8], BinaryType),
}

impl Values<'_> {
    /// Copies values [from, from + out.len()) as f32. A double out of f32's range becomes infinite.
    pub(crate) fn copy_f32(&self, from: usize, out: &mut [f32]) {
        use half::slice::HalfFloatSliceExt;
        let to = from + out.len();
        match self {
            Values::F16(v) => v[from..to].convert_to_f32_slice(out),
            Values::F32(v) => out.copy_from_slice(&v[from..to]),
            Values::F64(v) => out.iter_mut().zip(&v[from..to]).for_each(|(o, v)| *o = *v as f32),
            Values::I8(v) => out.iter_mut().zip(&v[from..to]).for_each(|(o, v)| *o = f32::from(*v)),
            Values::U8(v) => out.iter_mut().zip(&v[from..to]).for_each(|(o, v)| *o = f32::from(*v)),
            Values::Bytes(v, dtype) => copy_bytes(&v[dtype.bytes() * from..dtype.bytes() * to], *dtype, out),
        }
    }

    /// One value, as exact as it is stored.
    pub(crate) fn value(&self, at: usize) -> f64 {
        let of_bytes = |bytes: &[u8], dtype: BinaryType| match dtype {
            BinaryType::F64 => f64::from_le_bytes(bytes.try_into().unwrap_or_default()),
            _ => {
                let mut value = [0f32];
                copy_bytes(bytes, dtype, &mut value);
                f64::from(value[0])
            }
        };
        match self {
            Values::F16(v) => v[at].to_f64(),
            Values::F32(v) => f64::from(v[at]),
            Values::F64(v) => v[at],
            Values::I8(v) => f64::from(v[at]),
            Values::U8(v) => f64::from(v[at]),
            Values::Bytes(v, dtype) => of_bytes(&v[dtype.bytes() * at..dtype.bytes() * (at + 1)], *dtype),
        }
    }
}

/// Reads little-endian numbers as f32. A double out of f32's range becomes infinite.
fn copy_bytes(bytes: &[u8], dtype: BinaryType, out: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
        out.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(out, bytes)| *out = number(*bytes));
    }
    match dtype {
        BinaryType::Bf16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        BinaryType::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        BinaryType::F32 => each(bytes, out, f32::from_le_bytes),
        BinaryType::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        BinaryType::Int8 => each(bytes, out, |[b]| f32::from(b as i8)),
        BinaryType::Uint8 => each(bytes, out, |[b]| f32::from(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_type_is_read_to_the_bit() {
        let read = |values: Values<'_>| {
            let mut out = [0f32; 2];
            values.copy_f32(1, &mut out);
            assert_eq!([values.value(1), values.value(2)], out.map(f64::from));
            out
        };
        assert_eq!(read(Values::I8(&[7, -128, 127])), [-128.0, 127.0]);
        assert_eq!(read(Values::U8(&[7, 0, 255])), [0.0, 255.0]);
        assert_eq!(read(Values::F64(&[7.0, 0.5, -2.0])), [0.5, -2.0]);
        let bytes = |dtype, bytes: &[u8]| read(Values::Bytes(bytes, dtype));
        assert_eq!(bytes(BinaryType::Int8, &[7, 128, 127]), [-128.0, 127.0]);
        assert_eq!(bytes(BinaryType::Uint8, &[7, 128, 255]), [128.0, 255.0]);
        let bf16: Vec<u8> = [1.0, -1.5, 3e38].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(bytes(BinaryType::Bf16, &bf16), [-1.5, bf16::from_f32(3e38).to_f32()]);
        let f16: Vec<u8> = [1.0, -1.5, 0.25].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(bytes(BinaryType::F16, &f16), [-1.5, 0.25]);
        let f64: Vec<u8> = [1.0f64, -1.5, 0.25].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(bytes(BinaryType::F64, &f64), [-1.5, 0.25]);
    }
}
