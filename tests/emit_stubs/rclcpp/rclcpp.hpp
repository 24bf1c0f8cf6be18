// What a node uses of rclcpp, for a test: spin reads "send TOPIC NUMBER", "at SECONDS" and "tick", and published numbers are printed.
#pragma once
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace stub
{
inline double now;
inline std::map<std::string, std::function<void(double)>> topics;
inline std::function<void()> timer;
inline long long period;
}  // namespace stub

namespace rclcpp
{
struct Duration
{
    explicit Duration(std::chrono::nanoseconds count) : count_(count.count()) {}
    double seconds() const { return 1e-9 * static_cast<double>(count_); }
    long long count_;
};

struct Time
{
    explicit Time(double seconds = 0) : at(seconds) {}
    double at;
    Duration operator-(const Time & other) const { return Duration(std::chrono::nanoseconds(static_cast<long long>(1e9 * (at - other.at)))); }
};

struct Clock
{
    using SharedPtr = std::shared_ptr<Clock>;
    Time now() const { return Time{stub::now}; }
};

struct QoS
{
    QoS(int) {}
    QoS & keep_last(int) { return *this; }
};
struct SensorDataQoS : QoS
{
    SensorDataQoS() : QoS(5) {}
};

struct TimerBase
{
    using SharedPtr = std::shared_ptr<TimerBase>;
};

template<class Message>
struct Subscription
{
    using SharedPtr = std::shared_ptr<Subscription<Message>>;
};

template<class Message>
struct Publisher
{
    using SharedPtr = std::shared_ptr<Publisher<Message>>;
    std::string topic;
    void publish(const Message & message) { std::printf("%s %.17g\n", topic.c_str(), message.data); }
};

struct Logger
{
};

class Node
{
public:
    explicit Node(const std::string & name) : clock_(std::make_shared<Clock>()) { std::printf("node %s\n", name.c_str()); }

    template<class T>
    T declare_parameter(const std::string & name, T value)
    {
        std::printf("parameter %s %.17g\n", name.c_str(), value);
        return value;
    }

    template<class Message, class Callback>
    typename Subscription<Message>::SharedPtr create_subscription(const std::string & topic, const QoS &, Callback callback)
    {
        stub::topics[topic] = [callback](double value) { callback(std::make_shared<const Message>(Message{value})); };
        return std::make_shared<Subscription<Message>>();
    }

    template<class Message>
    typename Publisher<Message>::SharedPtr create_publisher(const std::string & topic, const QoS &)
    {
        return std::make_shared<Publisher<Message>>(Publisher<Message>{topic});
    }

    Clock::SharedPtr get_clock() const { return clock_; }
    Logger get_logger() const { return Logger{}; }

private:
    Clock::SharedPtr clock_;
};

template<class Owner, class Callback>
TimerBase::SharedPtr create_timer(Owner, Clock::SharedPtr, Duration period, Callback callback)
{
    stub::timer = callback;
    stub::period = period.count_;
    return std::make_shared<TimerBase>();
}

inline void init(int, char **) {}
inline void shutdown() {}

template<class Any>
void spin(const std::shared_ptr<Any> &)
{
    std::printf("period %lld\n", stub::period);
    char line[100], topic[100];
    double value;
    while (std::fgets(line, sizeof line, stdin)) {
        if (std::sscanf(line, "send %99s %lf", topic, &value) == 2) {
            stub::topics.at(topic)(value);
        } else if (std::sscanf(line, "nan %99s", topic) == 1) {
            stub::topics.at(topic)(NAN);
        } else if (std::sscanf(line, "at %lf", &value) == 1) {
            stub::now = value;
        } else {
            stub::timer();
            std::printf("ticked\n");
        }
    }
}
}  // namespace rclcpp

#define RCLCPP_WARN_THROTTLE(logger, clock, milliseconds, ...) \
    do {                                                       \
        (void)(logger);                                        \
        (void)(clock);                                         \
        std::printf("warned ");                                \
        std::printf(__VA_ARGS__);                              \
        std::printf("\n");                                     \
    } while (0)
