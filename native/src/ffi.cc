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
#include <utility>
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

using Grid = ffi::Buffer<ffi::F32>;
using Floats = ffi::Span<const float>;

// What is the same for every image, as attributes.
struct Rule {
  int64_t padding;
  bool shared;
  Floats scale, offset, tolerance;  // of each axis, see kernels.h
  Floats rows, columns;  // coordinates of the regular grid; none: of a grid
};

// A batch of images, and of grids or matrices, as the handlers get them:
//   image  (*batch, *size, channels)
//   grid  (*batch, *points, axes), or (*points, axes) if `shared`
//   matrix  (*batch, *views, 2 or 3, 3), or without batch if `shared`: each is
//     a view of its image, whose points are those of the regular grid
//   ct, warped  (*batch, *points, channels), or with *views before *points
class Shapes {
 public:
  static ffi::ErrorOr<Shapes> Describe(ffi::Span<const int64_t> image,
                                       const Grid& grid, const Rule& rule);

  int64_t batch = 1;
  int64_t image = 1;   // elements of one image
  int64_t views = 1;   // of one image: one, if there is a grid
  int64_t points = 1;  // of one view
  int64_t channels() const { return problem_.channels; }
  int32_t rows() const { return problem_.axis[0].size; }
  int axes() const { return problem_.axes; }
  bool is_map() const { return !x_.empty(); }
  int64_t matrix() const { return problem_.map.divides ? 9 : 6; }

  // The `count` points from `start` on, of view v of image b.
  Problem At(const float* grid, int64_t b, int64_t v, int64_t start,
             int64_t count) const {
    Problem here = problem_;
    here.points = count;
    const int64_t view = (shared_ ? 0 : b * views) + v;
    if (is_map()) {
      here.map.matrix = grid + view * matrix();
      here.map.x = x_.data();
      here.map.y = y_.data();
      here.map.start = start;
    } else {
      here.grid = grid + (view * points + start) * problem_.axes;
    }
    return here;
  }

 private:
  Problem problem_ = {};  // of one image, with its points still to be set
  bool shared_ = false;
  std::vector<float> x_, y_;  // see Map
};

ffi::ErrorOr<Shapes> Shapes::Describe(ffi::Span<const int64_t> image,
                                      const Grid& grid, const Rule& rule) {
  const size_t axes = rule.scale.size();
  const auto ends = grid.dimensions();
  const bool is_map = rule.columns.size() > 0;
  const auto last = static_cast<int64_t>(is_map ? axes + 1 : axes);
  if (axes < 1 || axes > kMaxAxes || rule.offset.size() != axes ||
      rule.tolerance.size() != axes || image.size() < axes + 1 ||
      ends.size() < 1 || ends.back() != last ||
      (is_map && (axes != 2 || ends.size() < 2 || rule.rows.size() < 1)) ||
      rule.padding < 0 || rule.padding > static_cast<int64_t>(Padding::kWrap)) {
    return ffi::Unexpected(
        ffi::Error::InvalidArgument("stn_native: the arguments do not fit"));
  }
  Shapes shapes;
  shapes.shared_ = rule.shared;
  Problem& problem = shapes.problem_;
  problem.axes = static_cast<int>(axes);
  problem.padding = static_cast<Padding>(rule.padding);
  problem.channels = image.back();
  const size_t batch_axes = image.size() - axes - 1;
  for (size_t a = 0; a < batch_axes; ++a) shapes.batch *= image[a];
  for (size_t a = batch_axes; a < image.size(); ++a) shapes.image *= image[a];
  if (shapes.image >= int64_t{1} << 31) {
    return ffi::Unexpected(ffi::Error::InvalidArgument(
        "stn_native: an image of 2**31 elements or more"));
  }
  for (size_t a = 0; a < axes; ++a) {
    problem.axis[a] = {static_cast<int32_t>(image[batch_axes + a]),
                       rule.scale[a], rule.offset[a], rule.tolerance[a]};
  }
  int64_t* each = is_map ? &shapes.views : &shapes.points;
  *each = static_cast<int64_t>(grid.element_count() / ends.back());
  if (is_map) {
    const int64_t rows = ends[ends.size() - 2];
    problem.map.divides = rows == 3;
    *each /= rows;
    const auto width = static_cast<int64_t>(rule.columns.size());
    problem.map.width = static_cast<int32_t>(width);
    shapes.points = width * static_cast<int64_t>(rule.rows.size());
    for (int64_t i = 0; i < width + kMargin; ++i) {
      shapes.x_.push_back(rule.columns[i % width]);
    }
    shapes.y_.assign(rule.rows.begin(), rule.rows.end());
    shapes.y_.resize(rule.rows.size() + kMargin);
  }
  if (!shapes.shared_ && shapes.batch) *each /= shapes.batch;
  return shapes;
}

// The points of all views, shared out in pieces: enough to be worth a thread,
// few enough to share out. Where they begin depends on one view alone, and so
// do its results.
struct Pieces {
  static constexpr int64_t kWork = 1 << 15;  // elements read or written
  static constexpr int64_t kAligned = 128;   // points, a multiple of kBlock
  int64_t views, points;                     // of each view
  int64_t most, count;                       // points of a piece, and pieces

  explicit Pieces(const Shapes& shapes)
      : views(shapes.batch * shapes.views), points(shapes.points) {
    const int64_t each = shapes.channels() << shapes.axes();
    const int64_t chunk = std::max<int64_t>(kWork / each, kAligned);
    const int64_t wanted = (points + chunk - 1) / chunk;
    most = (points + wanted - 1) / wanted;
    most = (most + kAligned - 1) / kAligned * kAligned;
    count = (points + most - 1) / most;
    together_ = std::max<int64_t>(chunk / std::min(most, points), 1);
  }

  // Calls body(view, piece, start, n): the piece is the n points from `start`.
  template <typename Body>
  void ForEach(ffi::ThreadPool& pool, const Body& body) const {
    const int64_t total = views * count;
    ParallelFor(pool, (total + together_ - 1) / together_, [&](int64_t task) {
      const int64_t end = std::min(total, (task + 1) * together_);
      for (int64_t i = task * together_; i < end; ++i) {
        const int64_t start = i % count * most;
        body(i / count, i, start, std::min(most, points - start));
      }
    });
  }

 private:
  int64_t together_;
};

template <typename T>
void SampleTyped(ffi::ThreadPool& pool, const Shapes& shapes, const float* grid,
                 const T* image, T* out) {
  const int64_t channels = shapes.channels();
  const std::vector<T> zeros(channels, T{});
  Pieces(shapes).ForEach(
      pool, [&](int64_t view, int64_t, int64_t start, int64_t n) {
    const int64_t b = view / shapes.views, v = view % shapes.views;
    BestFor<T>().sample(shapes.At(grid, b, v, start, n),
                        image + b * shapes.image, zeros.data(),
                        out + (view * shapes.points + start) * channels);
  });
}

template <typename T>
void PullTyped(ffi::ThreadPool& pool, const Shapes& shapes, const float* grid,
               const T* image, const T* ct, float* out) {
  const int64_t channels = shapes.channels();
  const std::vector<T> zeros(channels, T{});
  const Pieces pieces(shapes);
  constexpr int64_t kMatrix = 9;
  std::vector<float> sums;  // of every piece
  if (shapes.is_map()) sums.resize(pieces.views * pieces.count * kMatrix);
  pieces.ForEach(
      pool, [&](int64_t view, int64_t piece, int64_t start, int64_t n) {
    const int64_t b = view / shapes.views, v = view % shapes.views;
    const int64_t at = view * shapes.points + start;
    BestFor<T>().pull(shapes.At(grid, b, v, start, n), image + b * shapes.image,
                      zeros.data(), ct + at * channels,
                      shapes.is_map() ? sums.data() + piece * kMatrix
                                      : out + at * shapes.axes());
  });
  if (!shapes.is_map()) return;
  for (int64_t view = 0; view < pieces.views; ++view) {
    const float* from = sums.data() + view * pieces.count * kMatrix;
    for (int64_t i = 0; i < shapes.matrix(); ++i) {
      double sum = 0;
      for (int64_t p = 0; p < pieces.count; ++p) sum += from[p * kMatrix + i];
      out[view * shapes.matrix() + i] = static_cast<float>(sum);
    }
  }
}

template <typename T>
void ScatterTyped(ffi::ThreadPool& pool, const Shapes& shapes,
                  const float* grid, const T* ct, float* image) {
  // An image to a thread; where images are few each is cut into bands, which
  // does not change the order in which a pixel adds up.
  const int32_t rows = shapes.rows();
  const int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
  const int64_t numbers = shapes.views * shapes.points * shapes.channels();
  int64_t bands = 1;
  if (shapes.batch < 2 * threads) {
    bands = std::min({(2 * threads + shapes.batch - 1) / shapes.batch,
                      int64_t{rows}, numbers / (1 << 13) + 1});
  }
  const int64_t row = shapes.image / rows;
  ParallelFor(pool, shapes.batch * bands, [&](int64_t i) {
    const int64_t b = i / bands, band = i % bands;
    const auto begin = static_cast<int32_t>(band * rows / bands);
    const auto end = static_cast<int32_t>((band + 1) * rows / bands);
    float* to = image + b * shapes.image;
    std::memset(to + begin * row, 0, (end - begin) * row * sizeof(float));
    for (int64_t v = 0; v < shapes.views; ++v) {
      BestFor<T>().scatter(
          shapes.At(grid, b, v, 0, shapes.points),
          ct + (b * shapes.views + v) * shapes.points * shapes.channels(),
          begin, end, to);
    }
  });
}

// Calls body with a null pointer of the element type; bfloat16 or float32.
template <typename Body>
ffi::Error ForDtype(ffi::DataType dtype, const Body& body) {
  switch (dtype) {
    case ffi::F32: body(static_cast<float*>(nullptr)); break;
    case ffi::BF16: body(static_cast<BFloat16*>(nullptr)); break;
    default:
      return ffi::Error::InvalidArgument("stn_native: not float32 or bfloat16");
  }
  return ffi::Error::Success();
}

// image, grid -> warped
ffi::Error Sample(ffi::ThreadPool pool, ffi::AnyBuffer image, Grid grid,
                  ffi::Result<ffi::AnyBuffer> out, int64_t padding, bool shared,
                  Floats scale, Floats offset, Floats tolerance, Floats rows,
                  Floats columns) {
  auto shapes = Shapes::Describe(
      image.dimensions(), grid,
      {padding, shared, scale, offset, tolerance, rows, columns});
  if (!shapes) return shapes.error();
  if (!out->element_count()) return ffi::Error::Success();
  return ForDtype(image.element_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    SampleTyped<T>(pool, *shapes, grid.typed_data(),
                   static_cast<const T*>(image.untyped_data()),
                   static_cast<T*>(out->untyped_data()));
  });
}

// image, ct, grid -> the cotangent of the grid, or of the matrices
ffi::Error Pull(ffi::ThreadPool pool, ffi::AnyBuffer image, ffi::AnyBuffer ct,
                Grid grid, ffi::Result<Grid> out, int64_t padding, bool shared,
                Floats scale, Floats offset, Floats tolerance, Floats rows,
                Floats columns) {
  auto shapes = Shapes::Describe(
      image.dimensions(), grid,
      {padding, shared, scale, offset, tolerance, rows, columns});
  if (!shapes) return shapes.error();
  if (ct.element_type() != image.element_type()) {
    return ffi::Error::InvalidArgument("stn_native: ct is not of image's type");
  }
  if (!out->element_count()) return ffi::Error::Success();
  return ForDtype(image.element_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    PullTyped<T>(pool, *shapes, grid.typed_data(),
                 static_cast<const T*>(image.untyped_data()),
                 static_cast<const T*>(ct.untyped_data()), out->typed_data());
  });
}

// ct, grid -> the cotangent of the image, float32
ffi::Error Scatter(ffi::ThreadPool pool, ffi::AnyBuffer ct, Grid grid,
                   ffi::Result<ffi::Buffer<ffi::F32>> image, int64_t padding,
                   bool shared, Floats scale, Floats offset, Floats tolerance,
                   Floats rows, Floats columns) {
  auto shapes = Shapes::Describe(
      image->dimensions(), grid,
      {padding, shared, scale, offset, tolerance, rows, columns});
  if (!shapes) return shapes.error();
  if (!image->element_count()) return ffi::Error::Success();
  return ForDtype(ct.element_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    ScatterTyped<T>(pool, *shapes, grid.typed_data(),
                    static_cast<const T*>(ct.untyped_data()),
                    image->typed_data());
  });
}

// The attributes are those of Rule.
template <typename Arguments>
auto WithRule(Arguments arguments) {
  return std::move(arguments)
      .template Attr<int64_t>("padding")
      .template Attr<bool>("shared")
      .template Attr<Floats>("scale")
      .template Attr<Floats>("offset")
      .template Attr<Floats>("tolerance")
      .template Attr<Floats>("rows")
      .template Attr<Floats>("columns");
}

}  // namespace
}  // namespace stn

XLA_FFI_DEFINE_HANDLER_SYMBOL(stn_native_sample, stn::Sample,
                              stn::WithRule(xla::ffi::Ffi::Bind()
                                                .Ctx<xla::ffi::ThreadPool>()
                                                .Arg<xla::ffi::AnyBuffer>()
                                                .Arg<stn::Grid>()
                                                .Ret<xla::ffi::AnyBuffer>()));

XLA_FFI_DEFINE_HANDLER_SYMBOL(stn_native_pull, stn::Pull,
                              stn::WithRule(xla::ffi::Ffi::Bind()
                                                .Ctx<xla::ffi::ThreadPool>()
                                                .Arg<xla::ffi::AnyBuffer>()
                                                .Arg<xla::ffi::AnyBuffer>()
                                                .Arg<stn::Grid>()
                                                .Ret<stn::Grid>()));

XLA_FFI_DEFINE_HANDLER_SYMBOL(stn_native_scatter, stn::Scatter,
                              stn::WithRule(xla::ffi::Ffi::Bind()
                                                .Ctx<xla::ffi::ThreadPool>()
                                                .Arg<xla::ffi::AnyBuffer>()
                                                .Arg<stn::Grid>()
                                                .Ret<stn::Grid>()));

// What this library was built against, for the check before it is registered.
extern "C" int stn_native_ffi_major() {
  return XLA_FFI_API_MAJOR;
}
extern "C" int stn_native_ffi_minor() {
  return XLA_FFI_API_MINOR;
}
