// The sampler's loops as XLA FFI handlers: shapes, threads, the instruction
// set. What they compute is in kernels.h.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "kernels.h"
#include "xla/ffi/api/ffi.h"

namespace stn {
namespace {

namespace ffi = xla::ffi;

const Kernels& BestKernels() {
#ifdef STN_X86_LEVELS
  static const Kernels& best = []() -> const Kernels& {
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") &&
                    __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
    return v3 ? v3::kKernels : baseline::kKernels;
  }();
  return best;
#else
  return baseline::kKernels;
#endif
}

template <typename T>
const KernelsFor<T>& BestFor() {
  if constexpr (std::is_same_v<T, float>) {
    return BestKernels().f32;
  } else {
    return BestKernels().bf16;
  }
}

// Calls body(0) ... body(count - 1), each once, on XLA's own threads.
//
// The caller works too, and waits only for what others have claimed, that is,
// for what is running: it may itself be on a thread of the pool, and a helper
// that is never scheduled must not hold it up. Such a helper may start when
// the caller is long gone: it finds nothing left to claim and touches nothing
// but the shared state.
void ParallelFor(ffi::ThreadPool& pool, int64_t count,
                 const std::function<void(int64_t)>& body) {
  struct State {
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  const int64_t helpers = std::min(count, pool.num_threads()) - 1;
  if (helpers < 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  auto state = std::make_shared<State>();
  auto work = [state, count, &body] {
    for (int64_t i; (i = state->next.fetch_add(1)) < count;) {
      body(i);
      if (state->done.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->finished.notify_one();
      }
    }
  };
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->done.load() == count; });
}

// A batch of images and points, as the handlers get them:
//   image  (*batch, *size, channels)
//   pixels for each axis (*batch, *points), or (*points) if `shared`
//   ct, warped  (*batch, *points, channels)
struct Shapes {
  Problem problem;  // of one image, with its points still to be set
  int64_t batch = 1;
  int64_t image = 1;   // elements of one image
  int64_t points = 1;  // of one image
  bool shared = false;

  // Where the points of image b are, from its point `start`.
  Problem At(const float* const* pixels, int64_t b, int64_t start,
             int64_t points_here) const {
    Problem here = problem;
    here.points = points_here;
    for (int a = 0; a < problem.axes; ++a) {
      here.pixel[a] = pixels[a] + (shared ? 0 : b * points) + start;
    }
    return here;
  }
};

template <typename Dimensions>
ffi::ErrorOr<Shapes> Describe(const Dimensions& image, ffi::RemainingArgs& args,
                              size_t first, int64_t padding, bool shared,
                              std::vector<const float*>& pixels) {
  const auto invalid = [](const char* what) {
    return ffi::Unexpected(ffi::Error::InvalidArgument(what));
  };
  const size_t axes = args.size() - first;
  if (args.size() <= first || axes > kMaxAxes || image.size() < axes + 1 ||
      padding < 0 || padding > static_cast<int64_t>(Padding::kWrap)) {
    return invalid("stn_native: wrong number of arguments");
  }
  Shapes shapes;
  shapes.problem.axes = static_cast<int>(axes);
  shapes.problem.padding = static_cast<Padding>(padding);
  shapes.problem.channels = image[image.size() - 1];
  shapes.shared = shared;
  const size_t batch_axes = image.size() - axes - 1;
  for (size_t a = 0; a < batch_axes; ++a) shapes.batch *= image[a];
  for (size_t a = batch_axes; a < image.size(); ++a) shapes.image *= image[a];
  if (shapes.image >= int64_t{1} << 31) {
    return invalid("stn_native: an image of 2**31 elements or more");
  }
  for (size_t a = 0; a < axes; ++a) {
    shapes.problem.size[a] = static_cast<int32_t>(image[batch_axes + a]);
    auto pixel = args.get<ffi::Buffer<ffi::F32>>(first + a);
    if (!pixel) return ffi::Unexpected(pixel.error());
    const int64_t count = pixel->element_count();
    shapes.points =
        shared || !shapes.batch ? count : count / shapes.batch;
    pixels.push_back(pixel->typed_data());
  }
  return shapes;
}

// Points to a chunk: enough to be worth a thread, few enough to share out.
int64_t ChunkOfPoints(const Shapes& shapes) {
  constexpr int64_t kWork = 1 << 15;  // elements read or written
  const int64_t each = shapes.problem.channels << shapes.problem.axes;
  return std::max<int64_t>(kWork / each, 128);
}

// Calls body(b, start, n) for chunks of the points of every image.
template <typename Body>
void ForChunks(ffi::ThreadPool& pool, const Shapes& shapes, const Body& body) {
  const int64_t total = shapes.batch * shapes.points;
  const int64_t chunk = ChunkOfPoints(shapes);
  ParallelFor(pool, (total + chunk - 1) / chunk, [&](int64_t i) {
    const int64_t end = std::min(total, (i + 1) * chunk);
    for (int64_t at = i * chunk; at < end;) {  // may span images
      const int64_t b = at / shapes.points, start = at % shapes.points;
      const int64_t n = std::min(end - at, shapes.points - start);
      body(b, start, n);
      at += n;
    }
  });
}

template <typename T>
ffi::Error SampleTyped(ffi::ThreadPool& pool, const Shapes& shapes,
                       const float* const* pixels, const T* image, T* out) {
  const int64_t channels = shapes.problem.channels;
  const std::vector<T> zeros(channels, T{});
  ForChunks(pool, shapes, [&](int64_t b, int64_t start, int64_t n) {
    BestFor<T>().sample(shapes.At(pixels, b, start, n),
                        image + b * shapes.image, zeros.data(),
                        out + (b * shapes.points + start) * channels);
  });
  return ffi::Error::Success();
}

template <typename T>
ffi::Error PullTyped(ffi::ThreadPool& pool, const Shapes& shapes,
                     const float* const* pixels, const T* image, const T* ct,
                     const std::vector<float*>& out) {
  const int64_t channels = shapes.problem.channels;
  const std::vector<T> zeros(channels, T{});
  ForChunks(pool, shapes, [&](int64_t b, int64_t start, int64_t n) {
    const int64_t at = b * shapes.points + start;
    float* to[kMaxAxes] = {};
    for (size_t a = 0; a < out.size(); ++a) to[a] = out[a] + at;
    BestFor<T>().pull(shapes.At(pixels, b, start, n), image + b * shapes.image,
                      zeros.data(), ct + at * channels, to);
  });
  return ffi::Error::Success();
}

template <typename T>
ffi::Error ScatterTyped(ffi::ThreadPool& pool, const Shapes& shapes,
                        const float* const* pixels, const T* ct, float* image) {
  // An image to a thread; where images are few each is cut into bands, which
  // does not change the order in which a pixel adds up.
  const int32_t rows = shapes.problem.size[0];
  const int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
  int64_t bands = 1;
  if (shapes.batch < 2 * threads) {
    const int64_t work = shapes.points * shapes.problem.channels;
    bands = std::min({(2 * threads + shapes.batch - 1) / shapes.batch,
                      int64_t{rows}, work / (1 << 13) + 1});
  }
  const int64_t row = shapes.image / rows;
  ParallelFor(pool, shapes.batch * bands, [&](int64_t i) {
    const int64_t b = i / bands, band = i % bands;
    const auto begin = static_cast<int32_t>(band * rows / bands);
    const auto end = static_cast<int32_t>((band + 1) * rows / bands);
    float* to = image + b * shapes.image;
    std::memset(to + begin * row, 0, (end - begin) * row * sizeof(float));
    BestFor<T>().scatter(
        shapes.At(pixels, b, 0, shapes.points),
        ct + b * shapes.points * shapes.problem.channels, begin, end, to);
  });
  return ffi::Error::Success();
}

// Calls body with a null pointer of the element type; bfloat16 or float32.
template <typename Body>
ffi::Error ForDtype(ffi::DataType dtype, const Body& body) {
  switch (dtype) {
    case ffi::F32: return body(static_cast<float*>(nullptr));
    case ffi::BF16: return body(static_cast<BFloat16*>(nullptr));
    default:
      return ffi::Error::InvalidArgument("stn_native: not float32 or bfloat16");
  }
}

// image, pixels... -> warped
ffi::Error Sample(ffi::ThreadPool pool, ffi::RemainingArgs args,
                  ffi::Result<ffi::AnyBuffer> out, int64_t padding,
                  bool shared) {
  auto image = args.get<ffi::AnyBuffer>(0);
  if (!image) return image.error();
  std::vector<const float*> pixels;
  auto shapes =
      Describe(image->dimensions(), args, 1, padding, shared, pixels);
  if (!shapes) return shapes.error();
  if (!out->element_count()) return ffi::Error::Success();
  return ForDtype(image->element_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return SampleTyped<T>(pool, *shapes, pixels.data(),
                          static_cast<const T*>(image->untyped_data()),
                          static_cast<T*>(out->untyped_data()));
  });
}

// image, ct, pixels... -> the cotangent of each of the pixels
ffi::Error Pull(ffi::ThreadPool pool, ffi::RemainingArgs args,
                ffi::RemainingRets rets, int64_t padding, bool shared) {
  auto image = args.get<ffi::AnyBuffer>(0);
  if (!image) return image.error();
  auto ct = args.get<ffi::AnyBuffer>(1);
  if (!ct) return ct.error();
  std::vector<const float*> pixels;
  auto shapes =
      Describe(image->dimensions(), args, 2, padding, shared, pixels);
  if (!shapes) return shapes.error();
  std::vector<float*> out;
  for (size_t a = 0; a < rets.size(); ++a) {
    auto to = rets.get<ffi::Buffer<ffi::F32>>(a);
    if (!to) return to.error();
    out.push_back((*to)->typed_data());
    if (!(*to)->element_count()) return ffi::Error::Success();
  }
  if (out.size() != pixels.size() ||
      ct->element_type() != image->element_type()) {
    return ffi::Error::InvalidArgument("stn_native: pull got a wrong type");
  }
  return ForDtype(image->element_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return PullTyped<T>(pool, *shapes, pixels.data(),
                        static_cast<const T*>(image->untyped_data()),
                        static_cast<const T*>(ct->untyped_data()), out);
  });
}

// ct, pixels... -> the cotangent of the image, float32
ffi::Error Scatter(ffi::ThreadPool pool, ffi::RemainingArgs args,
                   ffi::Result<ffi::Buffer<ffi::F32>> image, int64_t padding,
                   bool shared) {
  auto ct = args.get<ffi::AnyBuffer>(0);
  if (!ct) return ct.error();
  std::vector<const float*> pixels;
  auto shapes =
      Describe(image->dimensions(), args, 1, padding, shared, pixels);
  if (!shapes) return shapes.error();
  if (!image->element_count()) return ffi::Error::Success();
  return ForDtype(ct->element_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return ScatterTyped<T>(pool, *shapes, pixels.data(),
                           static_cast<const T*>(ct->untyped_data()),
                           image->typed_data());
  });
}

}  // namespace
}  // namespace stn

XLA_FFI_DEFINE_HANDLER_SYMBOL(stn_native_sample, stn::Sample,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<int64_t>("padding")
                                  .Attr<bool>("shared"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(stn_native_pull, stn::Pull,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int64_t>("padding")
                                  .Attr<bool>("shared"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(stn_native_scatter, stn::Scatter,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Ret<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Attr<int64_t>("padding")
                                  .Attr<bool>("shared"));

// What this library was built against, for the check before it is registered.
extern "C" int stn_native_ffi_major() {
  return XLA_FFI_API_MAJOR;
}
extern "C" int stn_native_ffi_minor() {
  return XLA_FFI_API_MINOR;
}
