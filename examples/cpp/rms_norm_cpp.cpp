// rms_norm of float32 rows, sequentially: what a CPU kernel of somebody's own may look like.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cmath>

namespace {

struct View {
    Py_buffer buffer{};
    bool held = false;
    bool take(PyObject* object, int flags) {
        held = PyObject_GetBuffer(object, &buffer, flags) == 0;
        return held;
    }
    ~View() {
        if (held) PyBuffer_Release(&buffer);
    }
    float* data() const { return static_cast<float*>(buffer.buf); }
    Py_ssize_t size() const { return buffer.len / static_cast<Py_ssize_t>(sizeof(float)); }
};

// rms_norm(y, x, weight, eps): contiguous float32 buffers; y is written.
PyObject* rms_norm(PyObject*, PyObject* args) {
    PyObject *out, *in, *by;
    double eps;
    View y, x, weight;
    if (!PyArg_ParseTuple(args, "OOOd", &out, &in, &by, &eps)) return nullptr;
    if (!y.take(out, PyBUF_CONTIG) || !x.take(in, PyBUF_CONTIG_RO) ||
        !weight.take(by, PyBUF_CONTIG_RO))
        return nullptr;
    const Py_ssize_t D = weight.size();
    for (Py_ssize_t first = 0; D > 0 && first < x.size(); first += D) {
        float sum = 0.0f;
        for (Py_ssize_t d = 0; d < D; ++d) sum += x.data()[first + d] * x.data()[first + d];
        const float scale = 1.0f / std::sqrt(sum / static_cast<float>(D) + static_cast<float>(eps));
        for (Py_ssize_t d = 0; d < D; ++d)
            y.data()[first + d] = weight.data()[d] * (x.data()[first + d] * scale);
    }
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"rms_norm", rms_norm, METH_VARARGS, "rms_norm(y, x, weight, eps)"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "rms_norm_cpp", nullptr, -1, methods,
                      nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_rms_norm_cpp() { return PyModule_Create(&module); }
