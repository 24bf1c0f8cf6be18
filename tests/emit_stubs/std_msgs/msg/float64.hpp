#pragma once
#include <memory>

namespace std_msgs::msg
{
struct Float64
{
    using ConstSharedPtr = std::shared_ptr<const Float64>;
    double data;
};
}  // namespace std_msgs::msg
