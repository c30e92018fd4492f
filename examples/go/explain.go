// Run an explaining model and paint the map over a picture:
//
//	explain MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]
//
// TENSOR.f32 is the model's input as raw float32, CLASS an index or -1 (the default: the highest
// score). The environment's ONNXRUNTIME_LIBRARY names libonnxruntime.so. cgo and the standard
// library only: onnxruntime by dlopen, libonnxcam linked (docs/go.md).
package main

/*
#cgo LDFLAGS: -lonnxcam -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "onnxcam.h"

// onnxruntime's functions by their place in struct OrtApi of its C header.
typedef void *P;
static P *table;
static int load(const char *library) {
    P found = dlopen(library, RTLD_NOW), symbol = found ? dlsym(found, "OrtGetApiBase") : NULL;
    if (!symbol) return 1;
    P (*const *base)(uint32_t) = ((P (*const *(*)(void))(uint32_t))symbol)();
    table = base[0](17); // the version of the table; it only ever grows at its end
    return table ? 0 : 2;
}
static const char *message(P s) { return ((const char *(*)(P))table[2])(s); }
static P env(P *out) { return ((P (*)(int, const char *, P *))table[3])(4, "explain", out); }
static P session(P e, const char *model, P options, P *out) {
    return ((P (*)(P, const char *, P, P *))table[7])(e, model, options, out);
}
static P run(P s, const char **names, P *in, const char **wanted, P *out) {
    return ((P (*)(P, P, const char **, P *, size_t, const char **, size_t, P *))table[9])(
        s, NULL, names, in, 2, wanted, 2, out);
}
static P options(P *out) { return ((P (*)(P *))table[10])(out); }
static P input_name(P s, P allocator, char **out) {
    return ((P (*)(P, size_t, P, char **))table[36])(s, 0, allocator, out);
}
static P tensor(P memory, P data, size_t bytes, int64_t *shape, size_t rank, int type, P *out) {
    return ((P (*)(P, P, size_t, int64_t *, size_t, int, P *))table[49])(
        memory, data, bytes, shape, rank, type, out);
}
static P data(P value, P *out) { return ((P (*)(P, P *))table[51])(value, out); }
static P cast(P info, P *out) { return ((P (*)(P, P *))table[55])(info, out); }
static P rank(P info, size_t *out) { return ((P (*)(P, size_t *))table[61])(info, out); }
static P sides(P info, int64_t *out, size_t n) {
    return ((P (*)(P, int64_t *, size_t))table[62])(info, out, n);
}
static P value_info(P value, P *out) { return ((P (*)(P, P *))table[65])(value, out); }
static P declared(P s, int output, P *out) {
    return ((P (*)(P, size_t, P *))table[output ? 34 : 33])(s, 0, out);
}
static P cpu(P *out) { return ((P (*)(int, int, P *))table[69])(1, 0, out); }
static P allocator(P *out) { return ((P (*)(P *))table[78])(out); }
static P metadata(P s, P *out) { return ((P (*)(P, P *))table[111])(s, out); }
static P lookup(P m, P allocator, const char *key, char **out) {
    return ((P (*)(P, P, const char *, char **))table[116])(m, allocator, key, out);
}
*/
import "C"

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"
)

// wrong is a message for people; check and must raise it, main prints it.
type wrong string

func check(status C.P) {
	if status != nil {
		panic(wrong(C.GoString(C.message(status))))
	}
}

func must(good bool, format string, values ...any) {
	if !good {
		panic(wrong(fmt.Sprintf(format, values...)))
	}
}

func onnxcam(code C.int32_t) {
	must(code == 0, "libonnxcam: %s", C.GoString(C.onnxcam_error_text(code)))
}

func product(sides []C.int64_t) int {
	count := 1
	for _, side := range sides {
		count *= int(side)
	}
	return count
}

// shape is what a tensor's description says.
func shape(info C.P) []C.int64_t {
	var rank C.size_t
	check(C.rank(info, &rank))
	found := make([]C.int64_t, rank)
	check(C.sides(info, &found[0], rank))
	return found
}

// declared is the shape of the first input or output; open sides are -1.
func declared(session C.P, output C.int) []C.int64_t {
	var info, tensor C.P
	check(C.declared(session, output, &info))
	check(C.cast(info, &tensor))
	return shape(tensor)
}

// read is a file in C's memory: onnxruntime keeps pointers to inputs while it runs.
func read(name string) ([]byte, C.P) {
	content, err := os.ReadFile(name)
	must(err == nil, "%v", err)
	return content, C.P(C.CBytes(content))
}

// explain gives the finished map, 0 to 1, in C's memory, and its height and width.
func explain(model, tensor string, class int) (*C.float, C.ptrdiff_t, C.ptrdiff_t) {
	library, found := os.LookupEnv("ONNXRUNTIME_LIBRARY")
	if !found {
		library = "libonnxruntime.so.1"
	}
	must(C.load(C.CString(library)) == 0, "'%s' is not onnxruntime, or too old", library)
	var environment, options, session, memory, allocator, metadata C.P
	check(C.env(&environment))
	check(C.options(&options))
	check(C.session(environment, C.CString(model), options, &session))
	check(C.cpu(&memory))
	check(C.allocator(&allocator))
	check(C.metadata(session, &metadata))
	var contract, input *C.char
	check(C.lookup(metadata, allocator, C.CString("onnxcam"), &contract))
	must(contract != nil, "'%s' is not an explaining file (it has no contract)", model)
	classes := product(declared(session, 1)[1:])
	must(class >= -1 && (classes <= 0 || class < classes),
		"target %d: expected 0 to %d, or -1 for the highest score", class, classes-1)
	inputSides := declared(session, 0)
	for i := range inputSides {
		if inputSides[i] < 1 {
			inputSides[i] = 1
		}
	}
	content, values := read(tensor)
	must(len(content) == 4*product(inputSides), "'%s': expected float32 %v", tensor, inputSides)
	check(C.input_name(session, allocator, &input))
	target := (*C.int64_t)(C.malloc(8))
	*target = C.int64_t(class)
	var given, results [2]C.P
	one := C.int64_t(1)
	check(C.tensor(memory, values, C.size_t(len(content)), &inputSides[0],
		C.size_t(len(inputSides)), 1, &given[0]))
	check(C.tensor(memory, C.P(target), 8, &one, 1, 7, &given[1]))
	names := (*[2]*C.char)(C.malloc(16)) // pointers to pointers have to lie in C's memory
	wanted := (*[2]*C.char)(C.malloc(16))
	*names = [2]*C.char{input, C.CString("cam_target")}
	*wanted = [2]*C.char{C.CString("cam_activation"), C.CString("cam_gradient")}
	check(C.run(session, &names[0], &given[0], &wanted[0], &results[0]))
	var activation, gradient, info C.P
	check(C.data(results[0], &activation))
	check(C.data(results[1], &gradient))
	check(C.value_info(results[0], &info))
	sides := shape(info)
	must(len(sides) == 4, "expected an activation [1, C, h, w]")
	positions := C.ptrdiff_t(sides[2] * sides[3])
	raw := (*C.float)(C.malloc(C.size_t(4 * positions)))
	finished := (*C.float)(C.malloc(C.size_t(4 * positions)))
	var summary [4]C.double
	onnxcam(C.onnxcam_gradcam((*C.float)(activation), (*C.float)(gradient), raw, finished,
		&summary[0], 1, C.ptrdiff_t(sides[1]), positions, 1))
	return finished, C.ptrdiff_t(sides[2]), C.ptrdiff_t(sides[3])
}

// readPPM gives a binary PPM of 8 bits, without comments.
func readPPM(name string) (width, height int, pixels []byte) {
	content, err := os.ReadFile(name)
	must(err == nil, "%v", err)
	var most int
	from := bytes.NewReader(content)
	_, err = fmt.Fscanf(from, "P6\n%d %d\n%d\n", &width, &height, &most)
	pixels = content[len(content)-from.Len():]
	sized := err == nil && most == 255 && width > 0 && height > 0 && width <= 32768 && height <= 32768
	must(sized && len(pixels) == 3*width*height, "'%s': expected a whole PPM (P6, 8 bits)", name)
	return width, height, pixels
}

func run(words []string) {
	must(len(words) == 4 || len(words) == 5,
		"expected MODEL.cam.onnx TENSOR.f32 PICTURE.ppm OUT.ppm [CLASS]")
	class := -1
	if len(words) == 5 {
		number, err := strconv.Atoi(words[4])
		must(err == nil, "class '%s': expected an index", words[4])
		class = number
	}
	width, height, pixels := readPPM(words[2])
	heat, mapHeight, mapWidth := explain(words[0], words[1], class)
	w, h := C.ptrdiff_t(width), C.ptrdiff_t(height)
	size := C.onnxcam_overlay_jet_scratch(mapHeight, mapWidth, h, w, 3)
	must(size >= 0, "the picture's size is out of limits")
	scratch := make([]byte, size)
	painted := (*C.uint8_t)(unsafe.Pointer(&pixels[0])) // in place
	onnxcam(C.onnxcam_overlay_jet(heat, 0, 0, C.double(w), C.double(h), 0, painted, 3*w, 0.4, 0, 0,
		h, painted, 3*w, unsafe.Pointer(&scratch[0]), size, mapHeight, mapWidth, h, w, 3))
	head := fmt.Sprintf("P6\n%d %d\n255\n", width, height)
	err := os.WriteFile(words[3], append([]byte(head), pixels...), 0o644)
	must(err == nil, "%v", err)
}

func main() {
	defer func() {
		switch raised := recover().(type) {
		case nil:
		case wrong:
			fmt.Fprintln(os.Stderr, "explain:", strings.ReplaceAll(string(raised), "\n", " "))
			os.Exit(2)
		default:
			panic(raised)
		}
	}()
	run(os.Args[1:])
}
