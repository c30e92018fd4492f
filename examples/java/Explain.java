import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static jdk.incubator.foreign.CLinker.*;

import java.io.IOException;
import java.lang.invoke.MethodType;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.LongStream;
import jdk.incubator.foreign.*;

/**
 * Run an explaining model and paint the map over a picture:
 *
 * <pre>Explain MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]</pre>
 *
 * TENSOR.f32 is the model's input as raw float32, CLASS an index or -1 (the default: the highest
 * score). The environment says where the libraries are: ONNXRUNTIME_LIBRARY and ONNXCAM_LIBRARY.
 * With Java 17's foreign functions (docs/java.md), nothing else.
 */
public final class Explain {
    private static final ResourceScope SCOPE = ResourceScope.newImplicitScope();
    private static final SegmentAllocator MEMORY = SegmentAllocator.ofScope(SCOPE);
    private static final MemoryAddress NULL = MemoryAddress.NULL;
    private static MemoryAddress table; // onnxruntime's functions

    /** A message for people. */
    private static final class Wrong extends Exception {
        Wrong(String message) {
            super(message.replace('\n', ' '));
        }
    }

    /** Call a C function; the types of the arguments are those of the values. */
    private static Object call(MemoryAddress function, Class<?> returned, Object... values)
            throws Throwable {
        Class<?>[] types = new Class<?>[values.length];
        MemoryLayout[] layouts = new MemoryLayout[values.length];
        for (int i = 0; i < values.length; ++i) {
            types[i] = MethodType.methodType(values[i].getClass()).unwrap().returnType();
            if (values[i] instanceof MemoryAddress) types[i] = MemoryAddress.class;
            layouts[i] = layout(types[i]);
        }
        FunctionDescriptor descriptor = FunctionDescriptor.of(layout(returned), layouts);
        MethodType type = MethodType.methodType(returned, types);
        return CLinker.getInstance().downcallHandle(function, type, descriptor)
                .invokeWithArguments(values);
    }

    private static MemoryLayout layout(Class<?> type) {
        if (type == int.class) return C_INT;
        if (type == double.class) return C_DOUBLE;
        return type == long.class ? C_LONG : C_POINTER;
    }

    private static MemoryAddress symbol(String name) throws Wrong {
        return SymbolLookup.loaderLookup().lookup(name)
                .orElseThrow(() -> new Wrong("the libraries have no function " + name));
    }

    /** A function of onnxruntime, by its place in struct OrtApi of its C header. */
    private static void ort(int place, Object... values) throws Throwable {
        MemoryAddress status = (MemoryAddress) call(entry(place), MemoryAddress.class, values);
        if (status.equals(NULL)) return;
        throw new Wrong(toJavaString((MemoryAddress) call(entry(2), MemoryAddress.class, status)));
    }

    private static MemoryAddress entry(int place) {
        return MemoryAccess.getAddressAtIndex(table.asSegment(8 * 200, SCOPE), place);
    }

    /** The same for a function whose last argument points to its result. */
    private static MemoryAddress made(int place, Object... values) throws Throwable {
        MemorySegment out = MEMORY.allocate(8);
        Object[] all = Arrays.copyOf(values, values.length + 1);
        all[values.length] = out.address();
        ort(place, all);
        return MemoryAccess.getAddress(out);
    }

    private static void library(String code) throws Wrong {
        String name = System.getenv(code);
        if (name == null) throw new Wrong("set " + code + " in the environment");
        try {
            System.load(Path.of(name).toAbsolutePath().toString());
        } catch (UnsatisfiedLinkError error) {
            throw new Wrong(error.getMessage());
        }
    }

    /** A function of libonnxcam; 0 means that all is well. */
    private static void onnxcam(String name, Object... values) throws Throwable {
        int code = (int) call(symbol("onnxcam_" + name), int.class, values);
        if (code == 0) return;
        MemoryAddress text = symbol("onnxcam_error_text");
        MemoryAddress why = (MemoryAddress) call(text, MemoryAddress.class, code);
        throw new Wrong(name + ": " + toJavaString(why));
    }

    private static long[] shape(MemoryAddress info) throws Throwable {
        long rank = made(61, info).toRawLongValue();
        MemorySegment sides = MEMORY.allocate(8 * rank);
        ort(62, info, sides.address(), rank);
        return sides.toLongArray();
    }

    private static long product(LongStream sides) {
        return sides.reduce(1, (one, other) -> one * other);
    }

    private static MemoryAddress tensor(
            MemoryAddress memory, MemorySegment data, long[] shape, int type) throws Throwable {
        MemorySegment sides = MEMORY.allocateArray(C_LONG, shape);
        return made(49, memory, data.address(), data.byteSize(), sides.address(),
                (long) shape.length, type);
    }

    private static MemorySegment pointers(MemoryAddress... values) {
        return MEMORY.allocateArray(C_POINTER, values);
    }

    private static MemorySegment text(String value) {
        return toCString(value, SCOPE);
    }

    /** The finished map, 0 to 1, and its height and width. */
    private static long[] explain(String model, byte[] input, long target, MemorySegment[] map)
            throws Throwable {
        MemoryAddress base = (MemoryAddress) call(symbol("OrtGetApiBase"), MemoryAddress.class);
        MemoryAddress getApi = MemoryAccess.getAddress(base.asSegment(8, SCOPE));
        table = (MemoryAddress) call(getApi, MemoryAddress.class, 17);
        if (table.equals(NULL)) throw new Wrong("this onnxruntime is too old");
        MemoryAddress environment = made(3, 4, text("explain").address());
        MemoryAddress session = made(7, environment, text(model).address(), made(10));
        MemoryAddress memory = made(69, 1, 0);
        MemoryAddress allocator = made(78);
        MemoryAddress metadata = made(111, session);
        MemoryAddress contract = made(116, metadata, allocator, text("onnxcam").address());
        if (contract.equals(NULL))
            throw new Wrong("'" + model + "' is not an explaining file (it has no contract)");
        long classes = product(Arrays.stream(shape(made(55, made(34, session, 0L)))).skip(1));
        if (target < -1 || classes > 0 && target >= classes)
            throw new Wrong("target " + target + ": expected 0 to " + (classes - 1)
                    + ", or -1 for the highest score");
        long[] sides = Arrays.stream(shape(made(55, made(33, session, 0L))))
                .map(side -> Math.max(side, 1)).toArray();
        if (input.length != 4 * product(Arrays.stream(sides)))
            throw new Wrong("the tensor's file: expected float32 " + Arrays.toString(sides));
        MemorySegment values = MEMORY.allocateArray(C_CHAR, input);
        MemorySegment wish = MEMORY.allocateArray(C_LONG, new long[] {target});
        MemorySegment given = pointers(tensor(memory, values, sides, 1),
                tensor(memory, wish, new long[] {1}, 7));
        MemorySegment names = pointers(made(36, session, 0L, allocator),
                text("cam_target").address());
        MemorySegment wanted = pointers(text("cam_activation").address(),
                text("cam_gradient").address());
        MemorySegment results = pointers(NULL, NULL);
        ort(9, session, NULL, names.address(), given.address(), 2L, wanted.address(), 2L,
                results.address());
        MemoryAddress activation = MemoryAccess.getAddressAtIndex(results, 0);
        MemoryAddress gradient = MemoryAccess.getAddressAtIndex(results, 1);
        long[] found = shape(made(65, activation));
        if (found.length != 4) throw new Wrong("expected an activation [1, C, h, w]");
        long positions = found[2] * found[3];
        map[0] = MEMORY.allocate(4 * positions);
        onnxcam("gradcam", made(51, activation), made(51, gradient),
                MEMORY.allocate(4 * positions).address(), map[0].address(),
                MEMORY.allocate(8 * 4).address(), 1L, found[1], positions, 1L);
        return new long[] {found[2], found[3]};
    }

    /** Painted in place. */
    private static void paint(MemorySegment map, long[] size, MemorySegment pixels, long h, long w)
            throws Throwable {
        MemoryAddress scratch = symbol("onnxcam_overlay_jet_scratch");
        long room = (long) call(scratch, long.class, size[0], size[1], h, w, 3L);
        onnxcam("overlay_jet", map.address(), 0.0, 0.0, (double) w, (double) h, 0.0,
                pixels.address(), 3 * w, 0.4, 0, 0L, h, pixels.address(), 3 * w,
                MEMORY.allocate(Math.max(room, 1)).address(), room, size[0], size[1], h, w, 3L);
    }

    private static void run(String[] words) throws Throwable {
        if (words.length < 4 || words.length > 5)
            throw new Wrong("expected MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]");
        long target = words.length == 5 ? Long.parseLong(words[4]) : -1;
        byte[] content = Files.readAllBytes(Path.of(words[2]));
        String head = new String(content, 0, Math.min(content.length, 60), ISO_8859_1);
        Matcher ppm = Pattern.compile("P6\\s+(\\d{1,5})\\s+(\\d{1,5})\\s+255\\s").matcher(head);
        if (!ppm.lookingAt()) throw new Wrong("'" + words[2] + "': expected a PPM (P6, 8 bits)");
        long w = Long.parseLong(ppm.group(1)), h = Long.parseLong(ppm.group(2));
        byte[] pixels = Arrays.copyOfRange(content, ppm.end(), content.length);
        if (pixels.length == 0 || pixels.length != 3 * w * h)
            throw new Wrong("'" + words[2] + "': expected a whole PPM");
        library("ONNXRUNTIME_LIBRARY");
        library("ONNXCAM_LIBRARY");
        MemorySegment[] map = new MemorySegment[1];
        long[] size = explain(words[0], Files.readAllBytes(Path.of(words[1])), target, map);
        MemorySegment painted = MEMORY.allocateArray(C_CHAR, pixels);
        paint(map[0], size, painted, h, w);
        byte[] start = ("P6\n" + w + " " + h + "\n255\n").getBytes(ISO_8859_1);
        ByteBuffer file = ByteBuffer.allocate(start.length + pixels.length);
        Files.write(Path.of(words[3]), file.put(start).put(painted.toByteArray()).array());
    }

    public static void main(String[] words) throws Throwable {
        try {
            run(words);
        } catch (Wrong | IOException | NumberFormatException error) {
            String head = error instanceof IOException ? "cannot be read or written: " : "";
            System.err.println("explain: " + head + error.getMessage());
            System.exit(2);
        }
    }
}
