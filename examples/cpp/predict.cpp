// Name what is in pictures from C++, with another engine: OpenVINO. ./predict MODEL.onnx PNG...
//
// OpenVINO's headers and libraries come with `pip install openvino`; libpng is libpng-dev. See CMakeLists.txt here. The
// pictures must have the network's size; those of a garment network are grey, a light garment on black.

#include <png.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>
#include <vector>

// One PNG as levels, the rows of each channel in turn, into `pixels`, which has room for channels x height x width.
void read_png(const std::string& path, size_t channels, size_t height, size_t width, uint8_t* pixels) {
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_file(&png, path.c_str())) throw std::runtime_error(path + ": " + png.message);
    png.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
    const bool fits = png.width == width && png.height == height;
    std::vector<uint8_t> rows(channels * height * width);  // a pixel's channels lie side by side
    if (!fits || !png_image_finish_read(&png, nullptr, rows.data(), 0, nullptr)) {
        const std::string reason = fits ? png.message : "the network takes another size";
        png_image_free(&png);
        throw std::runtime_error(path + ": " + reason);
    }
    for (size_t at = 0; at < rows.size(); at++) pixels[at % channels * height * width + at / channels] = rows[at];
}

// The labels are a JSON list of strings in the metadata, which OpenVINO keeps under "framework". In a string, a backslash
// stands before a quote and before a backslash; labels hold no control characters, and others are not escaped.
std::vector<std::string> labels_of(const ov::Model& model) {
    const auto json = model.get_rt_info<std::string>("framework", "labels");
    std::vector<std::string> labels;
    bool inside = false;
    for (size_t at = 0; at < json.size(); at++) {
        if (json[at] == '"') {
            inside = !inside;
            if (inside) labels.emplace_back();
        } else if (inside) {
            if (json[at] == '\\') at++;
            labels.back() += json.at(at);
        }
    }
    return labels;
}

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: predict MODEL.onnx PNG...");
    const size_t count = argc - 2;
    ov::Core core;
    const auto model = core.read_model(argv[1]);
    const auto labels = labels_of(*model);
    // On x86 and Arm, OpenVINO may compute in a narrower type than the file's; f32 keeps the network's own.
    auto request = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32)).create_infer_request();

    const auto& input = model->input("image");
    if (input.get_element_type() != ov::element::u8) throw std::runtime_error("the file takes floats, and this passes bytes");
    const auto shape = input.get_partial_shape();  // [batch, channels, height, width], of which only the batch is open
    const size_t channels = shape[1].get_length(), height = shape[2].get_length(), width = shape[3].get_length();
    ov::Tensor images(ov::element::u8, {count, channels, height, width});
    uint8_t* pixels = images.data<uint8_t>();
    for (size_t n = 0; n < count; n++) read_png(argv[n + 2], channels, height, width, pixels + n * channels * height * width);
    request.set_tensor("image", images);
    request.infer();

    const auto probabilities = request.get_tensor("probabilities");
    if (probabilities.get_shape()[1] != labels.size()) throw std::runtime_error("the file has not as many labels as outputs");
    const float* row = probabilities.data<float>();
    for (size_t n = 0; n < count; n++, row += labels.size()) {
        const auto best = std::max_element(row, row + labels.size());
        std::cout << argv[n + 2] << ": " << labels[best - row] << ' ' << std::fixed << std::setprecision(1) << 100 * *best
                  << "%\n";
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
