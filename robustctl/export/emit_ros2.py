"""The package around a step in C: a node of ROS 2 with a timer and a topic for each signal."""

import re

from .c_text import comment
from .fields import Field
from .wrapped import Wrapped, filled, table

_NODE = """\
// NAME: a node that takes one step each DT s, made by robustctl.
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "rclcpp/rclcpp.hpp"
#include "std_msgs/msg/float64.hpp"

#include "NAME.h"

namespace
{

using Number = std_msgs::msg::Float64;

struct Input
{
    double value = 0.0;
    bool arrived = false;  // once since the start
    bool fresh = false;    // since the sample before
    rclcpp::Time at{};
};

class StepNode : public rclcpp::Node
{
public:
    StepNode() : rclcpp::Node("PACKAGE"), stale_after_(declare_parameter<double>("stale_after", 3.0 * NAME_UPPER_DT))
    {
        NAME_init(&state_);
        <SUBSCRIBE>
        <ADVERTISE>
        timer_ = rclcpp::create_timer(this, get_clock(), rclcpp::Duration(std::chrono::nanoseconds(NANOSECONDS)), [this]() { sample(); });
    }

private:
    void subscribe(std::size_t k, const std::string & topic)
    {
        subscriptions_[k] = create_subscription<Number>(
            topic, rclcpp::SensorDataQoS().keep_last(1), [this, k](Number::ConstSharedPtr message) { receive(k, message->data); });
    }

    void receive(std::size_t k, double value)
    {
        // What is not finite counts as not measured.
        if (std::isfinite(value)) {
            given_[k] = Input{value, true, true, get_clock()->now()};
        }
    }

    // Returns whether an input never arrived or is too old.
    bool is_stale(std::size_t k, const char * topic)
    {
        if (given_[k].arrived && (get_clock()->now() - given_[k].at).seconds() <= stale_after_) {
            return false;
        }
        RCLCPP_WARN_THROTTLE(
            get_logger(), *get_clock(), 1000, "%s is older than %g s: no step is taken and nothing is published", topic, stale_after_);
        return true;
    }

    void publish(std::size_t k, double value)
    {
        Number message;
        message.data = value;
        publishers_[k]->publish(message);
    }

    void sample()
    {
        <STALE>
        <ASSIGN>
        NAME_step(&state_, &inputs_, &outputs_);
        for (Input & each : given_) {
            each.fresh = false;
        }
        <PUBLISH>
    }

    NAME_state state_{};
    NAME_inputs inputs_{};
    NAME_outputs outputs_{};
    const double stale_after_;
    std::array<Input, INPUTS> given_{};
    std::array<rclcpp::Subscription<Number>::SharedPtr, INPUTS> subscriptions_;
    std::array<rclcpp::Publisher<Number>::SharedPtr, OUTPUTS> publishers_;
    rclcpp::TimerBase::SharedPtr timer_;
};

}  // namespace

int main(int argc, char ** argv)
{
    rclcpp::init(argc, argv);
    rclcpp::spin(std::make_shared<StepNode>());
    rclcpp::shutdown();
    return 0;
}
"""
_CMAKE = """\
cmake_minimum_required(VERSION 3.8)
project(PACKAGE LANGUAGES C CXX)

if(NOT CMAKE_C_STANDARD)
  set(CMAKE_C_STANDARD 99)
endif()
if(NOT CMAKE_CXX_STANDARD)
  set(CMAKE_CXX_STANDARD 17)
endif()

find_package(ament_cmake REQUIRED)
find_package(rclcpp REQUIRED)
find_package(std_msgs REQUIRED)

add_executable(PACKAGE PACKAGE.cpp NAME.c)
target_link_libraries(PACKAGE rclcpp::rclcpp ${std_msgs_TARGETS} m)
install(TARGETS PACKAGE DESTINATION lib/${PROJECT_NAME})

ament_package()
"""
_PACKAGE = """\
<?xml version="1.0"?>
<package format="3">
  <name>PACKAGE</name>
  <version>0.1.0</version>
  <description>One step of NAME each DT s</description>
  <maintainer email="you@example.com">Your name</maintainer>
  <license>Proprietary</license>

  <buildtool_depend>ament_cmake</buildtool_depend>
  <depend>rclcpp</depend>
  <depend>std_msgs</depend>

  <export>
    <build_type>ament_cmake</build_type>
  </export>
</package>
"""
_README = """\
# NAME as a node of ROS 2

    cp -r FOLDER workspace/src/PACKAGE
    colcon build --packages-select PACKAGE
    ros2 run PACKAGE PACKAGE --ros-args -r '~/input/OF_YOUR_CHOICE:=/sensor'

The node takes a step each DT s of the node's clock, so that `use_sim_time` works, and has a topic of type `std_msgs/msg/Float64` for each
signal; what is an integer or bool inside is converted.

<TABLE>

<TOPICS>

*Stale inputs.* While an input has never arrived, or its last message is older than the parameter `stale_after` (seconds, default three
samples), no step is taken and nothing is published, with a warning each second; the node then continues from the state that it had. A
message that is not finite counts as none. An input for which the model has a flag, 1 where measured, has the flag from the node: 1 if a
message came since the sample before. Such an input is never stale.

`package.xml` is yours: maintainer, license, version. All other files are compared by `robustctl export FOLDER --check`.
"""


def ros2(w: Wrapped) -> tuple[dict[str, str], dict[str, str]]:
    """Return the files of a package by name, and those that its user changes."""
    package = f"{_plain(w.name.lower())}_node"
    words = {
        "PACKAGE": package, "NANOSECONDS": str(round(w.dt * 1e9)), "DT": f"{w.dt:.9g}", "INPUTS": str(len(w.inputs)),
        "OUTPUTS": str(len(w.outputs)),
    }  # fmt: skip
    pattern = re.compile(rf"(?<![<_])\b({'|'.join(words)})\b")

    def of(template: str, **lines) -> str:
        return filled(pattern.sub(lambda match: words[match[1]], template), w, **lines)

    listed = {"TABLE": table(w), "TOPICS": ["Topics:", "", *(f"- `~/{t}`" for t in (*_topics(w).values(),))]}
    files = {
        f"{package}.cpp": of(_NODE, **_body(w)),
        "CMakeLists.txt": of(_CMAKE),
        "README.md": of(_README, **listed),
    }
    return files, {"package.xml": of(_PACKAGE)}


def _body(w: Wrapped) -> dict[str, list[str]]:
    topics = _topics(w)
    where = {field.name: k for k, field in enumerate(w.inputs)}
    flagged = {field.of for field in w.inputs if field.of}
    read = [f for f in w.inputs if not f.of]
    return {
        "SUBSCRIBE": [f'subscribe({where[f.name]}, "~/{topics["input", f.name]}"); {_note(f)}' for f in read],
        "ADVERTISE": [
            f'publishers_[{k}] = create_publisher<Number>("~/{topics["output", f.name]}", 1); {_note(f)}' for k, f in enumerate(w.outputs)
        ],
        "STALE": [
            line
            for f in read if f.name not in flagged
            for line in (f'if (is_stale({where[f.name]}, "{topics["input", f.name]}")) {{', "    return;", "}")
        ],
        "ASSIGN": [
            w.assigned(f, "inputs_.", f"(given_[{where[f.of]}].fresh ? 1.0 : 0.0)" if f.of else f"given_[{where[f.name]}].value")
            for f in w.inputs
        ],
        "PUBLISH": [f"publish({k}, {w.number(f, 'outputs_.')});" for k, f in enumerate(w.outputs)],
    }  # fmt: skip


def _note(field: Field) -> str:
    return comment(field.about)


def _topics(w: Wrapped) -> dict[tuple[str, str], str]:
    """Return a topic for each signal; in names of ROS 2 no two underscores follow each other."""
    found: dict[tuple[str, str], str] = {}
    for what, fields in (("input", [f for f in w.inputs if not f.of]), ("output", w.outputs)):
        for field in fields:
            topic = base = f"{what}/{_plain(field.name)}"
            count = 1
            while topic in found.values():
                count += 1
                topic = f"{base}_{count}"
            found[what, field.name] = topic
    return found


def _plain(name: str) -> str:
    return re.sub("_+", "_", name).strip("_")
