// Run an explaining model and paint the map over a picture:
//
//     Explain.exe MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]
//
// TENSOR.f32 is the model's input as raw float32, CLASS an index or -1 (the default: the highest
// score). P/Invoke only: libonnxruntime and libonnxcam are found as every native library is, under
// Linux through LD_LIBRARY_PATH (docs/csharp.md).
using System;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

/// <summary>A message for people.</summary>
sealed class Wrong : Exception {
    public Wrong(string message) : base(message.Replace('\n', ' ')) { }
}

static class Onnxcam {
    const string Library = "onnxcam";
    [DllImport(Library)] static extern IntPtr onnxcam_error_text(int code);
    [DllImport(Library)] static extern int onnxcam_gradcam(
        IntPtr activation, IntPtr gradient, float[] raw, float[] finished, double[] summary,
        IntPtr images, IntPtr channels, IntPtr positions, IntPtr targets);
    [DllImport(Library)] static extern IntPtr onnxcam_overlay_jet_scratch(
        IntPtr mapHeight, IntPtr mapWidth, IntPtr height, IntPtr width, IntPtr channels);
    [DllImport(Library)] static extern int onnxcam_overlay_jet(
        float[] map, double left, double top, double right, double bottom, double background,
        byte[] picture, IntPtr pictureStride, double alpha, int bgr, IntPtr first, IntPtr last,
        byte[] painted, IntPtr paintedStride, byte[] scratch, IntPtr scratchSize, IntPtr mapHeight,
        IntPtr mapWidth, IntPtr height, IntPtr width, IntPtr channels);

    static void Check(int code) {
        if (code == 0) return;
        throw new Wrong("libonnxcam: " + Marshal.PtrToStringAnsi(onnxcam_error_text(code)));
    }

    /// <summary>The finished map, 0 to 1, of one image and target.</summary>
    public static float[] Gradcam(
        IntPtr activation, IntPtr gradient, long channels, long positions) {
        float[] raw = new float[positions], finished = new float[positions];
        IntPtr one = (IntPtr)1;
        Check(onnxcam_gradcam(activation, gradient, raw, finished, new double[4], one,
            (IntPtr)channels, (IntPtr)positions, one));
        return finished;
    }

    /// <summary>Painted in place.</summary>
    public static void Paint(
        float[] map, long mapHeight, long mapWidth, byte[] pixels, int h, int w) {
        IntPtr mh = (IntPtr)mapHeight, mw = (IntPtr)mapWidth, height = (IntPtr)h, width = (IntPtr)w;
        IntPtr three = (IntPtr)3, stride = (IntPtr)(3L * w);
        IntPtr size = onnxcam_overlay_jet_scratch(mh, mw, height, width, three);
        byte[] scratch = new byte[Math.Max(1, (long)size)];
        Check(onnxcam_overlay_jet(map, 0, 0, w, h, 0, pixels, stride, 0.4, 0, IntPtr.Zero, height,
            pixels, stride, scratch, size, mh, mw, height, width, three));
    }
}

/// <summary>What is used of onnxruntime, by place in struct OrtApi of its C header.</summary>
static class Ort {
    [DllImport("onnxruntime")] static extern IntPtr OrtGetApiBase();
    delegate IntPtr GetApi(uint version);
    public delegate IntPtr P(IntPtr a);
    public delegate IntPtr Out(out IntPtr made);
    public delegate IntPtr POut(IntPtr a, out IntPtr made);
    public delegate IntPtr PnOut(IntPtr a, UIntPtr number, out IntPtr made);
    public delegate IntPtr PnPOut(IntPtr a, UIntPtr number, IntPtr b, out IntPtr made);
    public delegate IntPtr IntTextOut(int level, string name, out IntPtr made);
    public delegate IntPtr IntIntOut(int allocator, int kind, out IntPtr made);
    public delegate IntPtr PTextPOut(IntPtr a, byte[] model, IntPtr options, out IntPtr made);
    public delegate IntPtr PPTextOut(IntPtr a, IntPtr allocator, string key, out IntPtr text);
    public delegate IntPtr PLongs(IntPtr info, long[] sides, UIntPtr rank);
    public delegate IntPtr Tensor(IntPtr memory, IntPtr data, UIntPtr bytes, long[] shape,
        UIntPtr rank, int type, out IntPtr made);
    public delegate IntPtr Run(IntPtr session, IntPtr options, IntPtr[] names, IntPtr[] inputs,
        UIntPtr count, IntPtr[] outputNames, UIntPtr outputCount, IntPtr[] outputs);

    static readonly IntPtr Table = ((GetApi)Marshal.GetDelegateForFunctionPointer(
        Marshal.ReadIntPtr(OrtGetApiBase()), typeof(GetApi)))(17);

    public static T Function<T>(int place) where T : class {
        if (Table == IntPtr.Zero) throw new Wrong("this onnxruntime is too old");
        IntPtr function = Marshal.ReadIntPtr(Table, IntPtr.Size * place);
        return (T)(object)Marshal.GetDelegateForFunctionPointer(function, typeof(T));
    }

    public static void Check(IntPtr status) {
        if (status != IntPtr.Zero) throw new Wrong(Marshal.PtrToStringAnsi(Function<P>(2)(status)));
    }

    public static IntPtr Get(int place, IntPtr from) {
        IntPtr made;
        Check(Function<POut>(place)(from, out made));
        return made;
    }

    public static long[] Shape(IntPtr info) {
        long[] sides = new long[(long)Get(61, info)];
        Check(Function<PLongs>(62)(info, sides, (UIntPtr)(ulong)sides.Length));
        return sides;
    }

    /// <summary>The shape of the first input (33) or output (34); open sides are -1.</summary>
    public static long[] Declared(int place, IntPtr session) {
        IntPtr info;
        Check(Function<PnOut>(place)(session, UIntPtr.Zero, out info));
        return Shape(Get(55, info));
    }
}

static class Explain {
    static long Product(long[] sides) { return sides.Aggregate(1L, (one, other) => one * other); }

    /// <summary>Zero-terminated UTF-8 that stays where it is.</summary>
    static IntPtr Pinned(object value) {
        return GCHandle.Alloc(value, GCHandleType.Pinned).AddrOfPinnedObject();
    }

    static byte[] Utf8(string text) { return Encoding.UTF8.GetBytes(text + "\0"); }

    static float[] Map(string model, byte[] input, long target, out long height, out long width) {
        IntPtr environment, options, session, memory, allocator, contract, name;
        Ort.Check(Ort.Function<Ort.IntTextOut>(3)(4, "explain", out environment));
        Ort.Check(Ort.Function<Ort.Out>(10)(out options));
        Ort.Check(Ort.Function<Ort.PTextPOut>(7)(environment, Utf8(model), options, out session));
        Ort.Check(Ort.Function<Ort.IntIntOut>(69)(1, 0, out memory));
        Ort.Check(Ort.Function<Ort.Out>(78)(out allocator));
        IntPtr metadata = Ort.Get(111, session);
        Ort.Check(Ort.Function<Ort.PPTextOut>(116)(metadata, allocator, "onnxcam", out contract));
        if (contract == IntPtr.Zero)
            throw new Wrong("'" + model + "' is not an explaining file (it has no contract)");
        long classes = Product(Ort.Declared(34, session).Skip(1).ToArray());
        if (target < -1 || (classes > 0 && target >= classes))
            throw new Wrong("target " + target + ": expected 0 to " + (classes - 1) +
                ", or -1 for the highest score");
        long[] sides = Ort.Declared(33, session).Select(side => Math.Max(side, 1)).ToArray();
        if (input.Length != 4 * Product(sides))
            throw new Wrong("the tensor's file: expected float32 [" + string.Join(", ", sides) +
                "]");
        Ort.Check(Ort.Function<Ort.PnPOut>(36)(session, UIntPtr.Zero, allocator, out name));
        IntPtr[] given = new IntPtr[2], results = new IntPtr[2];
        Ort.Tensor tensor = Ort.Function<Ort.Tensor>(49);
        Ort.Check(tensor(memory, Pinned(input), (UIntPtr)(ulong)input.Length, sides,
            (UIntPtr)(ulong)sides.Length, 1, out given[0]));
        Ort.Check(tensor(memory, Pinned(new[] { target }), (UIntPtr)8, new[] { 1L }, (UIntPtr)1, 7,
            out given[1]));
        IntPtr[] names = { name, Pinned(Utf8("cam_target")) };
        IntPtr[] wanted = { Pinned(Utf8("cam_activation")), Pinned(Utf8("cam_gradient")) };
        Ort.Check(Ort.Function<Ort.Run>(9)(session, IntPtr.Zero, names, given, (UIntPtr)2, wanted,
            (UIntPtr)2, results));
        long[] shape = Ort.Shape(Ort.Get(65, results[0]));
        if (shape.Length != 4) throw new Wrong("expected an activation [1, C, h, w]");
        height = shape[2];
        width = shape[3];
        return Onnxcam.Gradcam(
            Ort.Get(51, results[0]), Ort.Get(51, results[1]), shape[1], height * width);
    }

    static void Do(string[] words) {
        if (words.Length < 4 || words.Length > 5)
            throw new Wrong("expected MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]");
        long target = -1, height, width;
        if (words.Length == 5 && !long.TryParse(words[4], out target))
            throw new Wrong("class '" + words[4] + "': expected an index");
        byte[] content = File.ReadAllBytes(words[2]);
        Encoding latin = Encoding.GetEncoding(28591);
        string head = latin.GetString(content, 0, Math.Min(60, content.Length));
        Match ppm = Regex.Match(head, @"^P6\s+([0-9]{1,5})\s+([0-9]{1,5})\s+255\s");
        int w = ppm.Success ? int.Parse(ppm.Groups[1].Value) : 0;
        int h = ppm.Success ? int.Parse(ppm.Groups[2].Value) : 0;
        byte[] pixels = content.Skip(ppm.Length).ToArray();
        if (w == 0 || h == 0 || pixels.Length != 3L * w * h)
            throw new Wrong("'" + words[2] + "': expected a whole PPM (P6, 8 bits)");
        float[] map = Map(words[0], File.ReadAllBytes(words[1]), target, out height, out width);
        Onnxcam.Paint(map, height, width, pixels, h, w);
        byte[] start = Encoding.ASCII.GetBytes("P6\n" + w + " " + h + "\n255\n");
        File.WriteAllBytes(words[3], start.Concat(pixels).ToArray());
    }

    static int Main(string[] words) {
        try {
            Do(words);
            return 0;
        } catch (Exception error) {
            Exception cause = error is TypeInitializationException ? error.InnerException : error;
            if (!(cause is Wrong || cause is IOException || cause is DllNotFoundException)) throw;
            Console.Error.WriteLine("explain: " + cause.Message.Replace('\n', ' '));
            return 2;
        }
    }
}
