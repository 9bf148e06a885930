// Finds objects in a picture with a file that `flyweight export --to onnx` wrote.
//
//   detect MODEL.onnx PICTURE [SCORE] [INPUT]
//
// prints one JSON object with the detections above SCORE (0.3), boxes xyxy in pixels of the picture,
// and writes the bytes that the network was given to the file INPUT, if one is named.
// Everything that is needed beside the pixels lies in the model's own metadata: how a picture becomes
// an input, the names of the classes, the thresholds.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

using nlohmann::json;

struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
};

struct Detection {
  std::array<float, 4> box_xyxy;
  float score;
  int label;
};

// Where the network's input came from: input = picture * scale + offset, in pixels.
struct Placement {
  double scale_x, scale_y;
  int left, top;
};

Image read_image(const std::string& path) {
  int width, height, channels;
  std::unique_ptr<uint8_t, void (*)(void*)> data(stbi_load(path.c_str(), &width, &height, &channels, 3),
                                                 stbi_image_free);
  if (!data) throw std::runtime_error(path + ": " + stbi_failure_reason());
  return {height, width, {data.get(), data.get() + size_t(height) * width * 3}};
}

// Two neighbours of each output pixel, with weights in 1/2048: OpenCV's fixed point for bytes.
struct LinearTap {
  int first, second, first_weight, second_weight;
};

std::vector<LinearTap> linear_taps(int from, int to) {
  std::vector<LinearTap> taps(to);
  for (int i = 0; i < to; ++i) {
    // centres of pixels lie at halves
    float at = float((i + 0.5) * (double(from) / to) - 0.5);
    int first = int(std::floor(at));
    float share = at - float(first);
    if (first < 0) first = 0, share = 0;
    if (first >= from - 1) first = from - 1, share = 0;
    taps[i] = {first, std::min(first + 1, from - 1), int(std::lrint((1 - share) * 2048)),
               int(std::lrint(share * 2048))};
  }
  return taps;
}

// Bilinear, to the byte what cv2.resize(..., INTER_LINEAR) gives.
Image resize_linear(const Image& image, int height, int width) {
  const auto rows = linear_taps(image.height, height), columns = linear_taps(image.width, width);
  Image out{height, width, std::vector<uint8_t>(size_t(height) * width * 3)};
  auto across = [&](int y, const LinearTap& tap, int c) {
    const uint8_t* row = &image.rgb[size_t(y) * image.width * 3];
    return row[tap.first * 3 + c] * tap.first_weight + row[tap.second * 3 + c] * tap.second_weight;
  };
  uint8_t* pixel = out.rgb.data();
  for (const auto& row : rows)
    for (const auto& column : columns)
      for (int c = 0; c < 3; ++c) {
        const int upper = across(row.first, column, c) >> 4, lower = across(row.second, column, c) >> 4;
        *pixel++ = uint8_t((((row.first_weight * upper) >> 16) + ((row.second_weight * lower) >> 16) + 2) >> 2);
      }
  return out;
}

// Every pixel that an output pixel covers, with the share that it covers.
struct AreaTap {
  int index;
  float weight;
};

std::vector<std::vector<AreaTap>> area_taps(int from, int to) {
  const double scale = double(from) / to;
  std::vector<std::vector<AreaTap>> taps(to);
  for (int i = 0; i < to; ++i) {
    const double begin = i * scale, end = std::min(begin + scale, double(from));
    for (int k = int(begin); k < std::min(int(std::ceil(end)), from); ++k) {
      const double covered = std::min(end, k + 1.0) - std::max(begin, double(k));
      if (covered > 1e-3) taps[i].push_back({k, float(covered / (end - begin))});
    }
  }
  return taps;
}

// Mean over the covered area, what cv2.resize(..., INTER_AREA) gives where both sides shrink.
Image resize_area(const Image& image, int height, int width) {
  const auto rows = area_taps(image.height, height), columns = area_taps(image.width, width);
  Image out{height, width, std::vector<uint8_t>(size_t(height) * width * 3)};
  uint8_t* pixel = out.rgb.data();
  for (const auto& row : rows)
    for (const auto& column : columns)
      for (int c = 0; c < 3; ++c) {
        float sum = 0;
        for (const auto& down : row) {
          float across = 0;
          for (const auto& right : column)
            across += right.weight * image.rgb[(size_t(down.index) * image.width + right.index) * 3 + c];
          sum += down.weight * across;
        }
        *pixel++ = uint8_t(std::clamp(std::lrint(sum), 0L, 255L));
      }
  return out;
}

Image resize(const Image& image, int height, int width) {
  if (image.height == height && image.width == width) return image;
  // Bilinear reads 2 x 2 pixels: beyond a factor of 2 it would skip some.
  const double shrink = std::max(double(image.height) / height, double(image.width) / width);
  return shrink > 2.01 ? resize_area(image, height, width) : resize_linear(image, height, width);
}

// From a picture to the network's input, as the manifest says.
Image preprocess(const Image& image, const json& how, Placement& placement) {
  const int height = how["size_hw"][0], width = how["size_hw"][1];
  int inner_height = height, inner_width = width;
  placement = {double(width) / image.width, double(height) / image.height, 0, 0};
  if (how["resize"] == "letterbox") {
    const double scale = std::min(placement.scale_x, placement.scale_y);
    inner_height = std::clamp(int(std::nearbyint(image.height * scale)), 1, height);
    inner_width = std::clamp(int(std::nearbyint(image.width * scale)), 1, width);
    placement = {double(inner_width) / image.width, double(inner_height) / image.height,
                 (width - inner_width) / 2, (height - inner_height) / 2};
  } else if (how["resize"] != "stretch") {
    throw std::runtime_error("this example knows stretch and letterbox, not " + how["resize"].dump());
  }
  const Image inner = resize(image, inner_height, inner_width);
  Image input{height, width, std::vector<uint8_t>(size_t(height) * width * 3, uint8_t(how["pad_value"]))};
  for (int y = 0; y < inner_height; ++y)
    std::copy_n(&inner.rgb[size_t(y) * inner_width * 3], inner_width * 3,
                &input.rgb[(size_t(y + placement.top) * width + placement.left) * 3]);
  return input;
}

float iou(const std::array<float, 4>& a, const std::array<float, 4>& b) {
  const float width = std::max(0.f, std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const float height = std::max(0.f, std::min(a[3], b[3]) - std::max(a[1], b[1]));
  const float common = width * height;
  const float both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common;
  return both > 0 ? common / both : 0;
}

// From boxes [anchors, 4] and scores [anchors, classes] to detections: class by class, best first.
std::vector<Detection> select(const float* boxes, const float* scores, int anchors, int classes,
                              float threshold, const json& thresholds) {
  if (thresholds["nms"] != "greedy") throw std::runtime_error("this example knows greedy NMS only");
  const float most_overlap = thresholds["iou"];
  const size_t candidates_per_class = thresholds["candidates_per_class"];
  const size_t max_detections = thresholds["max_detections"];
  const auto better = [](const Detection& a, const Detection& b) { return a.score > b.score; };
  std::vector<Detection> found;
  for (int label = 0; label < classes; ++label) {
    std::vector<Detection> candidates, kept;
    for (int a = 0; a < anchors; ++a) {
      const float score = scores[a * classes + label];
      const float* box = boxes + 4 * a;
      if (score > threshold) candidates.push_back({{box[0], box[1], box[2], box[3]}, score, label});
    }
    std::stable_sort(candidates.begin(), candidates.end(), better);
    candidates.resize(std::min(candidates.size(), candidates_per_class));
    for (const auto& each : candidates)
      if (std::none_of(kept.begin(), kept.end(),
                       [&](const Detection& k) { return iou(k.box_xyxy, each.box_xyxy) > most_overlap; }))
        kept.push_back(each);
    found.insert(found.end(), kept.begin(), kept.end());
  }
  std::stable_sort(found.begin(), found.end(), better);
  found.resize(std::min(found.size(), max_detections));
  return found;
}

void to_picture(Detection& found, const Placement& placement, const Image& image) {
  auto& box = found.box_xyxy;
  for (int i : {0, 2}) box[i] = std::clamp(float((box[i] - placement.left) / placement.scale_x), 0.f, float(image.width));
  for (int i : {1, 3}) box[i] = std::clamp(float((box[i] - placement.top) / placement.scale_y), 0.f, float(image.height));
}

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("usage: detect MODEL.onnx PICTURE [SCORE] [INPUT]");
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "flyweight");
  Ort::Session session(env, argv[1], Ort::SessionOptions{});
  Ort::AllocatorWithDefaultOptions allocator;
  const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("flyweight", allocator);
  if (!text) throw std::runtime_error(std::string(argv[1]) + " was not written by Flyweight");
  const json manifest = json::parse(text.get()), &thresholds = manifest["thresholds"];

  const Image image = read_image(argv[2]);
  Placement placement;
  Image input = preprocess(image, manifest["preprocessing"], placement);
  if (argc > 4) std::ofstream(argv[4], std::ios::binary).write((const char*)input.rgb.data(), input.rgb.size());

  const std::array<int64_t, 4> shape{1, input.height, input.width, 3};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto images = Ort::Value::CreateTensor<uint8_t>(memory, input.rgb.data(), input.rgb.size(), shape.data(), 4);
  const std::array<const char*, 1> in{"images"};
  const std::array<const char*, 2> out{"boxes", "scores"};
  const auto outputs = session.Run(Ort::RunOptions{}, in.data(), &images, 1, out.data(), 2);

  const auto sides = outputs[1].GetTensorTypeAndShapeInfo().GetShape();  // 1, anchors, classes
  const float score = std::max(argc > 3 ? std::stof(argv[3]) : 0.3f, float(thresholds["score"]));
  json detections = json::array();
  for (auto& each : select(outputs[0].GetTensorData<float>(), outputs[1].GetTensorData<float>(),
                           int(sides[1]), int(sides[2]), score, thresholds)) {
    to_picture(each, placement, image);
    detections.push_back({{"label", manifest["class_names"][each.label]},
                          {"class_id", each.label},
                          {"score", each.score},
                          {"box_xyxy", each.box_xyxy}});
  }
  std::cout << json{{"picture", argv[2]}, {"detections", detections}}.dump() << "\n";
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
