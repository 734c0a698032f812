// Instructions to deeds.

#include "fake.h"
#include "ptx.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace ptx {

namespace {

uint64_t cut(uint64_t value, unsigned bytes) { return bytes == 8 ? value : value & ((1ull << 8 * bytes) - 1); }

int64_t extended(uint64_t value, unsigned bytes) {
    unsigned left = 64 - 8 * bytes;
    return static_cast<int64_t>(value << left) >> left;
}

float single(uint64_t bits) {
    uint32_t low = static_cast<uint32_t>(bits);
    float value;
    std::memcpy(&value, &low, sizeof value);
    return value;
}

template <typename T> bool holds(Order order, T a, T b) {
    switch (order) {
    case Order::eq: return a == b;
    case Order::ne: return a != b;
    case Order::lt: return a < b;
    case Order::le: return a <= b;
    case Order::gt: return a > b;
    default: return a >= b;
    }
}

constexpr int LANES = 32;
constexpr uint32_t ALL = ~0u;
enum class State { runs, waits_for_lanes, waits_for_warps, left };

class Warp {
public:
    Warp(const Kernel &kernel, const Shape &shape, const std::vector<char> &parameters, std::vector<char> &shared,
         unsigned first)
        : kernel_(kernel), parameters_(parameters), shared_(shared),
          values_(static_cast<size_t>(kernel.registers) * LANES) {
        for (auto &constant : kernel.constants) {
            fill(constant.place, [&](int) { return constant.value; });
        }
        for (int lane = 0; lane < LANES; ++lane) {
            states_[lane] = first + lane < shape.block[0] ? State::runs : State::left;
        }
        set_special(0, [&](int lane) { return first + lane; });
        set_special(3, [&](int) { return shape.block[0]; });
        set_special(4, [&](int) { return shape.grid[0]; });
        set_special(5, [&](int) { return shape.grid[1]; });
        set_special(6, [&](int lane) { return lane; });
    }

    void place(unsigned x, unsigned y) {
        set_special(1, [&](int) { return x; });
        set_special(2, [&](int) { return y; });
    }

    // Until all lanes wait for other warps or have left.
    void run() {
        for (;;) {
            uint32_t mask = 0;
            size_t at = kernel_.code.size();
            for (int lane = 0; lane < LANES; ++lane) {
                if (states_[lane] == State::runs && at_[lane] <= at) {
                    mask = at_[lane] < at ? 1u << lane : mask | 1u << lane;
                    at = at_[lane];
                }
            }
            if (!mask) {
                for (auto state : states_) {
                    fake::must(state != State::waits_for_lanes, "lanes exchange values with others that do not come");
                }
                return;
            }
            together(at, mask);
        }
    }

    bool is_done() const { return all(State::left); }
    void go_on() {
        for (auto &state : states_) {
            state = state == State::waits_for_warps ? State::runs : state;
        }
    }

private:
    bool all(State wanted) const {
        return std::all_of(states_, states_ + LANES, [&](State state) { return state == wanted; });
    }

    uint64_t *row(int place) { return &values_[static_cast<size_t>(place) * LANES]; }

    template <typename Value> void fill(int place, Value value) {
        for (int lane = 0; lane < LANES; ++lane) {
            row(place)[lane] = value(lane);
        }
    }

    template <typename Value> void set_special(int number, Value value) {
        if (kernel_.special[number] >= 0) {
            fill(kernel_.special[number], value);
        }
    }

    template <typename Deed> static void each(uint32_t mask, Deed deed) {
        if (mask == ALL) {
            for (int lane = 0; lane < LANES; ++lane) {
                deed(lane);
            }
            return;
        }
        for (int lane = 0; lane < LANES; ++lane) {
            if (mask >> lane & 1) {
                deed(lane);
            }
        }
    }

    // Some lanes from an instruction on, until they part, wait, or stand where other lanes do.
    void together(size_t at, uint32_t mask) {
        size_t others = kernel_.code.size();
        for (int lane = 0; lane < LANES; ++lane) {
            if (states_[lane] == State::runs && !(mask >> lane & 1)) {
                others = std::min(others, at_[lane]);
            }
        }
        while (at < others) {
            const Instruction &one = kernel_.code[at];
            uint32_t doing = mask;
            if (one.guard >= 0) {
                uint32_t holds = 0;
                each(mask, [&](int lane) { holds |= (row(one.guard)[lane] != 0) != one.guard_not ? 1u << lane : 0; });
                doing = holds;
            }
            switch (one.code) {
            case Code::branch:
                if (doing == mask) {
                    at = one.offset;
                    continue;
                }
                if (doing) {
                    each(mask, [&](int lane) { at_[lane] = doing >> lane & 1 ? one.offset : at + 1; });
                    return;
                }
                break;
            case Code::leave:
                each(doing, [&](int lane) { states_[lane] = State::left; });
                each(mask & ~doing, [&](int lane) { at_[lane] = at + 1; });
                return;
            case Code::barrier:
                fake::must(doing == mask, "a barrier for some lanes");
                each(mask, [&](int lane) { states_[lane] = State::waits_for_warps, at_[lane] = at + 1; });
                return;
            case Code::shuffle:
            case Code::any:
            case Code::warp_barrier:
                fake::must(doing == mask, "an exchange for some lanes");
                if (!meet(one, at, mask)) {
                    return;
                }
                exchange(one, mask);
                break;
            default: compute(one, doing);
            }
            ++at;
        }
        each(mask, [&](int lane) { at_[lane] = at; });
    }

    // Whether all lanes that an exchange is between are here. Those that waited are added to the mask.
    bool meet(const Instruction &one, size_t at, uint32_t &mask) {
        int members = one.from[one.code == Code::shuffle ? 3 : one.code == Code::any ? 1 : 0];
        uint32_t wanted = static_cast<uint32_t>(row(members)[__builtin_ctz(mask)]), here = mask;
        for (int lane = 0; lane < LANES; ++lane) {
            here |= states_[lane] == State::waits_for_lanes && at_[lane] == at ? 1u << lane : 0;
            wanted &= states_[lane] == State::left ? ~(1u << lane) : ALL;
        }
        bool complete = (here & wanted) == wanted;
        // Of lanes that waited, the caller's run on with them.
        each(here, [&](int lane) { states_[lane] = complete ? State::runs : State::waits_for_lanes, at_[lane] = at; });
        mask = complete ? here : mask;
        return complete;
    }

    void exchange(const Instruction &one, uint32_t mask) {
        if (one.code == Code::shuffle) {
            uint64_t before[LANES];
            std::copy_n(row(one.from[0]), LANES, before);
            each(mask, [&](int lane) {
                int other = lane ^ static_cast<int>(row(one.from[1])[lane] & 31);
                fake::must(mask >> other & 1 && row(one.from[2])[lane] == 31, "a value of a lane that is not here");
                row(one.to)[lane] = cut(before[other], one.bytes);
                if (one.to2 >= 0) {
                    row(one.to2)[lane] = 1;
                }
            });
        } else if (one.code == Code::any) {
            uint64_t any = 0;
            each(mask, [&](int lane) { any |= row(one.from[0])[lane] != 0; });
            each(mask, [&](int lane) { row(one.to)[lane] = any; });
        }
    }

    char *memory(const Instruction &one, int lane) {
        uint64_t address = row(one.from[0])[lane] + one.offset;
        if (one.shared) {
            address = static_cast<uint32_t>(address);
            fake::must(address + one.bytes <= shared_.size() && address % one.bytes == 0, "shared memory ends before");
            return &shared_[address];
        }
        fake::must(address % one.bytes == 0, "an address that is not a multiple of the value's size");
        return fake::real(reinterpret_cast<const void *>(address), one.bytes);
    }

    void compute(const Instruction &one, uint32_t mask) {
        auto binary = [&](auto value) {
            auto *to = row(one.to), *a = row(one.from[0]), *b = row(one.from[1]);
            each(mask, [&](int lane) { to[lane] = cut(value(a[lane], b[lane]), one.bytes); });
        };
        auto unary = [&](auto value) {
            auto *to = row(one.to), *a = row(one.from[0]);
            each(mask, [&](int lane) { to[lane] = cut(value(a[lane]), one.bytes); });
        };
        auto wide = [&](uint64_t value) {
            return one.is_signed ? extended(value, one.bytes) : static_cast<int64_t>(cut(value, one.bytes));
        };
        using u64 = uint64_t;
        switch (one.code) {
        case Code::add: return binary([](u64 a, u64 b) { return a + b; });
        case Code::sub: return binary([](u64 a, u64 b) { return a - b; });
        case Code::mul: return binary([](u64 a, u64 b) { return a * b; });
        case Code::mul_wide: {
            auto *to = row(one.to), *a = row(one.from[0]), *b = row(one.from[1]);
            return each(mask, [&](int lane) { to[lane] = cut(wide(a[lane]) * wide(b[lane]), 2 * one.bytes); });
        }
        case Code::and_: return binary([](u64 a, u64 b) { return a & b; });
        case Code::or_: return binary([](u64 a, u64 b) { return a | b; });
        case Code::xor_: return binary([](u64 a, u64 b) { return a ^ b; });
        case Code::not_: return unary([&](u64 a) { return one.bytes == 1 ? a ^ 1 : ~a; });
        case Code::neg: return unary([](u64 a) { return -a; });
        // Shifts by more than there are bits leave nothing but the sign.
        case Code::shl: return binary([&](u64 a, u64 b) { return b < 8 * one.bytes ? a << b : 0; });
        case Code::shr:
            return binary([&](u64 a, u64 b) {
                b = std::min<u64>(b, 63);
                return one.is_signed ? static_cast<u64>(wide(a) >> b) : cut(a, one.bytes) >> b;
            });
        case Code::min:
        case Code::max:
            return binary([&](u64 a, u64 b) {
                bool less = one.is_signed ? wide(a) < wide(b) : cut(a, one.bytes) < cut(b, one.bytes);
                return less == (one.code == Code::min) ? a : b;
            });
        case Code::mov: return unary([](u64 a) { return a; });
        case Code::permute: {
            auto *to = row(one.to), *a = row(one.from[0]), *b = row(one.from[1]), *order = row(one.from[2]);
            return each(mask, [&](int lane) {
                u64 all = cut(a[lane], 4) | b[lane] << 32, value = 0;
                for (int byte = 0; byte < 4; ++byte) {
                    u64 from = order[lane] >> 4 * byte & 15;
                    fake::must(from < 8, "a byte of signs");
                    value |= (all >> 8 * from & 255) << 8 * byte;
                }
                to[lane] = value;
            });
        }
        case Code::pack: return binary([](u64 a, u64 b) { return cut(a, 4) | b << 32; });
        case Code::unpack: {
            auto *low = row(one.to), *high = row(one.to2), *from = row(one.from[0]);
            return each(mask, [&](int lane) {
                u64 value = from[lane];
                low[lane] = cut(value, 4), high[lane] = value >> 32;
            });
        }
        case Code::cvt:
            return unary([&](u64 a) {
                return one.from_signed ? static_cast<u64>(extended(a, one.from_bytes)) : cut(a, one.from_bytes);
            });
        case Code::set: {
            auto *to = row(one.to), *a = row(one.from[0]), *b = row(one.from[1]);
            return each(mask, [&](int lane) {
                if (one.is_float) {
                    float left = single(a[lane]), right = single(b[lane]);
                    bool none = std::isnan(left) || std::isnan(right);
                    to[lane] = none ? one.unordered : holds(one.order, left, right);
                } else if (one.is_signed) {
                    to[lane] = holds(one.order, wide(a[lane]), wide(b[lane]));
                } else {
                    to[lane] = holds(one.order, cut(a[lane], one.bytes), cut(b[lane], one.bytes));
                }
            });
        }
        case Code::sel: {
            auto *to = row(one.to), *a = row(one.from[0]), *b = row(one.from[1]), *which = row(one.from[2]);
            return each(mask, [&](int lane) { to[lane] = cut(which[lane] ? a[lane] : b[lane], one.bytes); });
        }
        case Code::parameter:
            fake::must(static_cast<size_t>(one.offset) + one.bytes <= parameters_.size(), "a parameter beyond the last");
            return each(mask, [&](int lane) {
                row(one.to)[lane] = 0;
                std::memcpy(&row(one.to)[lane], &parameters_[one.offset], one.bytes);
            });
        case Code::load:
            return each(mask, [&](int lane) {
                u64 value = 0;
                std::memcpy(&value, memory(one, lane), one.bytes);
                row(one.to)[lane] = value;
            });
        case Code::store: return each(mask, [&](int lane) { std::memcpy(memory(one, lane), &row(one.from[1])[lane], one.bytes); });
        default: return;
        }
    }

    const Kernel &kernel_;
    const std::vector<char> &parameters_;
    std::vector<char> &shared_;
    std::vector<uint64_t> values_;
    State states_[LANES];
    size_t at_[LANES] = {};
};

} // namespace

void run(const Kernel &kernel, const Shape &shape, const std::vector<char> &parameters) {
    fake::must(shape.block[1] == 1 && shape.block[2] == 1 && shape.grid[2] == 1, "a block or grid of another form");
    for (unsigned y = 0; y < shape.grid[1]; ++y) {
        for (unsigned x = 0; x < shape.grid[0]; ++x) {
            // No number, no row.
            std::vector<char> shared(kernel.shared_bytes, '\xff');
            std::vector<Warp> warps;
            for (unsigned first = 0; first < shape.block[0]; first += LANES) {
                warps.emplace_back(kernel, shape, parameters, shared, first);
                warps.back().place(x, y);
            }
            auto done = [](const Warp &warp) { return warp.is_done(); };
            while (!std::all_of(warps.begin(), warps.end(), done)) {
                for (auto &warp : warps) {
                    warp.run();
                }
                for (auto &warp : warps) {
                    warp.go_on();
                }
            }
        }
    }
}

} // namespace ptx
