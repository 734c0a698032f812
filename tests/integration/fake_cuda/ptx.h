// PTX, interpreted: as much of it as FAISS's kernels of a search by brute force have in them.
//
// A block's warps run one after another, each until it waits for the others; the lanes of a warp that stand at the
// same instruction do it together, those at the earliest one first. A lane that should take part in an exchange
// between lanes, and does not come, ends the process, as does what is not known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ptx {

struct Parameter {
    std::string name;
    size_t offset, bytes;
};

enum class Code { add, sub, mul, mul_wide, shl, shr, and_, or_, xor_, not_, neg, min, max, mov, permute, pack, unpack, cvt, set,
                  sel, load, store, parameter, branch, shuffle, any, barrier, warp_barrier, leave, nothing };
enum class Order { eq, ne, lt, le, gt, ge };

struct Instruction {
    Code code = Code::nothing;
    Order order = Order::eq;
    // Of what is computed on, and of what it is made into.
    bool is_signed = false, is_float = false, from_signed = false, shared = false, unordered = false;
    unsigned bytes = 8, from_bytes = 8;
    // Registers; constants and special ones are registers, too.
    int to = -1, to2 = -1, from[4] = {-1, -1, -1, -1};
    int64_t offset = 0; // of an address; where a branch goes
    int guard = -1;
    bool guard_not = false;
};

struct Constant {
    int place;
    uint64_t value;
};

struct Kernel {
    std::string name;
    std::vector<Parameter> parameters;
    size_t parameter_bytes = 0, shared_bytes = 0;
    std::vector<Instruction> code;
    std::vector<Constant> constants;
    int registers = 0;
    // tid.x, ctaid.x, ctaid.y, ntid.x, nctaid.x, nctaid.y, laneid; -1: not used.
    int special[7] = {-1, -1, -1, -1, -1, -1, -1};
};

struct Shape {
    unsigned grid[3], block[3];
};

Kernel parse(const std::string &text, const std::string &name);
void run(const Kernel &kernel, const Shape &shape, const std::vector<char> &parameters);

} // namespace ptx
