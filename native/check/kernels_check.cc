// Runs the loops of src/kernels.cc by themselves. Without arguments: over
// every number of axes and channels and every padding, at hostile
// coordinates, in arrays of just their size, for the sanitizers
// (`make test-native`).
//
// With an argument, a work's number or `all`: the time of each loop, on one
// thread.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "../src/kernels.h"

namespace {

const stn::Kernels& kernels = stn::STN_LEVEL::kKernels;
std::mt19937 rng(0);

float Uniform(float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(rng);
}

struct Case {
  stn::Problem problem;
  std::vector<float> image, zeros, ct, warped, gradient, grid, pulled;
  std::vector<float> matrix, x, y;

  Case(int axes, const int32_t* size, int64_t channels, int64_t points,
       stn::Padding padding) {
    problem.axes = axes;
    problem.channels = channels;
    problem.padding = padding;
    problem.points = points;
    int64_t elements = channels;
    for (int a = 0; a < axes; ++a) {
      const float tolerance = size[a] * std::numeric_limits<float>::epsilon();
      problem.axis[a] = {size[a], size[a] / 2.0f, (size[a] - 1) / 2.0f,
                         tolerance};
      elements *= size[a];
    }
    for (int64_t i = 0; i < points * axes; ++i) {
      grid.push_back(Uniform(-3, 3));
    }
    pulled.resize(points * axes);
    problem.grid = grid.data();
    zeros.resize(channels);
    for (int64_t i = 0; i < elements; ++i) image.push_back(Uniform(-1, 1));
    for (int64_t i = 0; i < points * channels; ++i) ct.push_back(Uniform(-1, 1));
    warped.resize(points * channels);
    gradient.resize(elements);
  }

  // The same points, or as many, from a matrix: `width` to a row.
  void UseMap(int32_t width, bool divides) {
    for (int i = 0; i < 9; ++i) matrix.push_back(Uniform(-1, 1));
    for (int i = 0; i < width + stn::kMargin; ++i) {
      x.push_back((i % width + 0.5f) * 2 / width - 1);
    }
    const auto rows = static_cast<int32_t>((problem.points - 1) / width + 1);
    for (int i = 0; i < rows + stn::kMargin; ++i) {
      y.push_back((i + 0.5f) * 2 / rows - 1);
    }
    pulled.resize(9);
    problem.grid = nullptr;
    problem.map = {matrix.data(), divides, x.data(), y.data(), width, 0};
  }

  void Sample() {
    kernels.f32.sample(problem, image.data(), zeros.data(), warped.data());
  }
  void Pull() {
    kernels.f32.pull(problem, image.data(), zeros.data(), ct.data(),
                     pulled.data());
  }
  void Scatter() {
    kernels.f32.scatter(problem, ct.data(), 0, problem.axis[0].size,
                        gradient.data());
  }
};

// <sample(image), ct> = <image, scatter(ct)>, by how much not.
double Adjoint(Case& c) {
  c.Sample();
  c.gradient.assign(c.gradient.size(), 0);
  c.Scatter();
  double one = 0, two = 0;
  for (size_t i = 0; i < c.ct.size(); ++i) one += c.warped[i] * c.ct[i];
  for (size_t i = 0; i < c.image.size(); ++i) {
    two += c.image[i] * c.gradient[i];
  }
  return std::fabs(one - two) / c.ct.size();
}

int Check() {
  const float inf = std::numeric_limits<float>::infinity();
  const float hostile[] = {NAN,   inf,   -inf,   1e30f,        -1e30f, 3e38f,
                           -3e38, 0.0f,  -0.0f,  1073741824.f, -1.0f,  2.0f,
                           1e9f,  -1e9f, 1e-40f, -1e-40f,      2.5f,   5.0f};
  const int32_t sizes[][3] = {{3, 4, 5}, {1, 1, 1}, {2, 1, 7}};
  double worst = 0;
  for (int axes = 1; axes <= 3; ++axes) {
    for (const auto& size : sizes) {
      for (int64_t channels : {1, 2, 3, 4, 5, 16, 23, 64}) {
        for (int padding = 0; padding <= 4; ++padding) {
          Case c(axes, size, channels, 300, static_cast<stn::Padding>(padding));
          worst = std::fmax(worst, Adjoint(c));
          for (int32_t width : {3, 8, 25, 300}) {
            if (axes != 2) break;
            Case map(axes, size, channels, 300 - 300 % width,
                     static_cast<stn::Padding>(padding));
            map.UseMap(width, width % 2);
            worst = std::fmax(worst, Adjoint(map));
            map.Pull();
            map.matrix[rng() % 9] = hostile[rng() % 18];
            map.Sample();
            map.Pull();
            map.Scatter();
          }
          for (float& coordinate : c.grid) {
            if (rng() % 2) coordinate = hostile[rng() % 18];
          }
          c.Sample();
          c.Pull();
          c.Scatter();
          for (int32_t row = 0; row < size[0]; ++row) {  // bands of one row
            kernels.f32.scatter(c.problem, c.ct.data(), row, row + 1,
                                c.gradient.data());
          }
          std::vector<stn::BFloat16> image(c.image.size()), ct(c.ct.size()),
              zeros(channels), warped(c.ct.size());
          for (size_t i = 0; i < image.size(); ++i) image[i].bits = rng();
          for (size_t i = 0; i < ct.size(); ++i) ct[i].bits = rng();
          kernels.bf16.sample(c.problem, image.data(), zeros.data(),
                              warped.data());
          kernels.bf16.pull(c.problem, image.data(), zeros.data(), ct.data(),
                            c.pulled.data());
          kernels.bf16.scatter(c.problem, ct.data(), 0, size[0],
                               c.gradient.data());
        }
      }
    }
  }
  std::printf("adjoint to %.1e\n", worst);
  return worst < 1e-5 ? 0 : 1;
}

template <typename F>
double Nanoseconds(const F& f, int64_t points) {
  double best = 1e30;
  for (int i = 0; i < 25; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - start;
    best = std::fmin(best, took.count());
  }
  return 1e9 * best / points;
}

void Time(const char* only) {
  struct {
    int axes;
    int32_t size[3];
    int64_t channels;
    int32_t output;
  } works[] = {{2, {28, 28, 0}, 1, 28},     {2, {64, 64, 0}, 3, 32},
               {2, {32, 32, 0}, 64, 32},    {2, {448, 448, 0}, 3, 224},
               {2, {448, 448, 0}, 4, 224},  {2, {448, 448, 0}, 16, 224},
               {2, {2048, 2048, 0}, 3, 2048}, {3, {64, 64, 64}, 1, 64}};
  for (const auto& w : works) {
    if (only[0] != 'a' && only[0] - '0' != &w - works) continue;
    const int64_t points =
        w.axes == 3 ? w.output * w.output * w.output : w.output * w.output;
    Case c(w.axes, w.size, w.channels, points, stn::Padding::kZeros);
    for (int64_t i = 0; i < points; ++i) {  // turned a little
      const float x = (i % w.output + 0.5f) * 2 / w.output - 1;
      const float y = (i / w.output % w.output + 0.5f) * 2 / w.output - 1;
      float* to = c.grid.data() + i * w.axes;
      to[0] = 1.05f * x - 0.12f * y + 0.07f;
      to[1] = 0.1f * x + 0.97f * y - 0.06f;
      if (w.axes == 3) to[2] = 0.97f * (i / (w.output * w.output) / 32.0f - 1);
    }
    const int repeat = points < 50000 ? 200 : 1;
    const auto times = [&](void (Case::*f)()) {
      return Nanoseconds([&] { for (int i = 0; i < repeat; ++i) (c.*f)(); },
                         points * repeat);
    };
    std::printf("%dD %4d x %2d channels: sample %.2f, pull %.2f, scatter %.2f"
                " ns a point\n", w.axes, w.size[0], int(w.channels),
                times(&Case::Sample), times(&Case::Pull),
                times(&Case::Scatter));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return Check();
  Time(argv[1]);
}
