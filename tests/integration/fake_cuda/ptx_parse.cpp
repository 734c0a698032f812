// The text of a kernel to instructions.

#include "fake.h"
#include "ptx.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <sstream>

namespace ptx {

namespace {

[[noreturn]] void unknown(const std::string &what) {
    fake::must(false, ("PTX that is not known here: " + what).c_str());
    std::abort();
}

std::vector<std::string> split(const std::string &text, const char *at) {
    std::vector<std::string> words;
    for (size_t start = 0; (start = text.find_first_not_of(at, start)) != std::string::npos;) {
        size_t end = std::min(text.find_first_of(at, start), text.size());
        words.push_back(text.substr(start, end - start));
        start = end;
    }
    return words;
}

class Parser {
public:
    Parser(Kernel &kernel) : kernel_(kernel) {}

    void parameter(const std::string &line) {
        // .param .align 8 .b8 NAME[40],  or  .param .u64 NAME,
        auto words = split(line, " \t,");
        size_t align = 0, bytes = 0;
        for (size_t at = 1; at + 1 < words.size(); ++at) {
            if (words[at] == ".align") {
                align = std::stoul(words[++at]);
            } else {
                bytes = std::stoul(words[at].substr(2)) / 8;
            }
        }
        std::string name = words.back();
        align = align ? align : bytes;
        if (size_t open = name.find('['); open != std::string::npos) {
            bytes *= std::stoul(name.substr(open + 1));
            name.resize(open);
        }
        size_t offset = (kernel_.parameter_bytes + align - 1) / align * align;
        kernel_.parameters.push_back({name, offset, bytes});
        kernel_.parameter_bytes = offset + bytes;
    }

    void shared(const std::string &line) {
        // .shared .align 4 .b8 NAME[4096]
        auto words = split(line, " \t;");
        size_t align = std::stoul(words[2]), open = words[4].find('[');
        size_t offset = (kernel_.shared_bytes + align - 1) / align * align;
        symbols_[words[4].substr(0, open)] = offset;
        kernel_.shared_bytes = offset + std::stoul(words[4].substr(open + 1));
    }

    void label(const std::string &name) { labels_[name] = kernel_.code.size(); }

    void instruction(std::string text) {
        Instruction one;
        if (text[0] == '@') {
            size_t space = text.find_first_of(" \t");
            one.guard_not = text[1] == '!';
            one.guard = place(text.substr(one.guard_not ? 2 : 1, space - (one.guard_not ? 2 : 1)));
            text = text.substr(text.find_first_not_of(" \t", space));
        }
        size_t space = std::min(text.find_first_of(" \t"), text.size());
        auto name = split(text.substr(0, space), ".");
        auto rest = split(text.substr(space), " \t,");
        decode(one, name, rest, text);
        kernel_.code.push_back(one);
    }

    void end() {
        for (auto &[at, label] : branches_) {
            kernel_.code[at].offset = static_cast<int64_t>(labels_.at(label));
        }
        kernel_.code.push_back({});
        kernel_.code.back().code = Code::leave;
    }

private:
    // The register of an operand.
    int place(const std::string &word) {
        auto [at, is_new] = places_.emplace(word, kernel_.registers);
        if (is_new) {
            ++kernel_.registers;
            const char *specials[] = {"%tid.x", "%ctaid.x", "%ctaid.y", "%ntid.x", "%nctaid.x", "%nctaid.y", "%laneid"};
            for (int number = 0; number < 7; ++number) {
                if (word == specials[number]) {
                    kernel_.special[number] = at->second;
                    return at->second;
                }
            }
            if (word[0] != '%') {
                kernel_.constants.push_back({at->second, value(word)});
            } else if (word.find('.') != std::string::npos) {
                unknown(word);
            }
        }
        return at->second;
    }

    uint64_t value(const std::string &word) {
        if (symbols_.count(word)) {
            return symbols_[word];
        }
        if (word.rfind("0f", 0) == 0) {
            return std::stoull(word.substr(2), nullptr, 16);
        }
        if (word[0] != '-' && !std::isdigit(word[0])) {
            unknown(word);
        }
        return word[0] == '-' ? static_cast<uint64_t>(std::stoll(word)) : std::stoull(word, nullptr, 0);
    }

    static void type(const std::string &name, unsigned &bytes, bool &is_signed, bool &is_float) {
        bytes = name == "pred" ? 1 : std::stoul(name.substr(1)) / 8;
        is_signed = name[0] == 's';
        is_float = name[0] == 'f';
    }

    // [NAME+8] or [%rd1+-256]
    void address(Instruction &one, std::string word, bool parameter) {
        word = word.substr(1, word.size() - 2);
        size_t plus = word.find('+');
        one.offset = plus == std::string::npos ? 0 : std::stoll(word.substr(plus + 1));
        word = word.substr(0, plus);
        if (!parameter) {
            one.from[0] = place(word);
            return;
        }
        for (auto &known : kernel_.parameters) {
            if (known.name == word) {
                one.offset += static_cast<int64_t>(known.offset);
                return;
            }
        }
        unknown("a parameter " + word);
    }

    void decode(Instruction &one, const std::vector<std::string> &name, const std::vector<std::string> &rest,
                const std::string &text) {
        static const std::map<std::string, Code> plain = {
            {"add", Code::add}, {"sub", Code::sub},  {"shl", Code::shl},  {"shr", Code::shr}, {"and", Code::and_},
            {"or", Code::or_},  {"xor", Code::xor_}, {"not", Code::not_}, {"neg", Code::neg}, {"min", Code::min},
            {"max", Code::max}, {"mov", Code::mov},  {"selp", Code::sel}, {"mul", Code::mul}, {"prmt", Code::permute}};
        static const std::map<std::string, Order> orders = {{"eq", Order::eq}, {"ne", Order::ne}, {"lt", Order::lt},
                                                            {"le", Order::le}, {"gt", Order::gt}, {"ge", Order::ge}};
        const std::string &what = name[0];
        auto operands = [&](size_t first) {
            for (size_t at = first; at < rest.size(); ++at) {
                one.from[at - first] = place(rest[at]);
            }
        };
        if (what == "ret") {
            one.code = Code::leave;
            return;
        }
        if (what == "prefetch") {
            return;
        }
        if (what == "bra") {
            one.code = Code::branch;
            branches_.push_back({kernel_.code.size(), rest[0]});
            return;
        }
        if (what == "bar") {
            one.code = name[1] == "warp" ? Code::warp_barrier : Code::barrier;
            operands(0);
            return;
        }
        type(name.back(), one.bytes, one.is_signed, one.is_float);
        if (what == "ld") {
            one.code = name[1] == "param" ? Code::parameter : Code::load;
            one.shared = name[1] == "shared";
            one.to = place(rest[0]);
            address(one, rest[1], name[1] == "param");
        } else if (what == "st") {
            one.code = Code::store;
            one.shared = name[1] == "shared";
            address(one, rest[0], false);
            one.from[1] = place(rest[1]);
        } else if (what == "mov" && rest[0][0] == '{') {
            one.code = Code::unpack;
            one.to = place(rest[0].substr(1));
            one.to2 = place(rest[1].substr(0, rest[1].size() - 1));
            one.from[0] = place(rest[2]);
        } else if (what == "mov" && rest[1][0] == '{') {
            one.code = Code::pack;
            one.to = place(rest[0]);
            one.from[0] = place(rest[1].substr(1));
            one.from[1] = place(rest[2].substr(0, rest[2].size() - 1));
        } else if (what == "cvta") {
            one.code = Code::mov;
            one.to = place(rest[0]);
            operands(1);
        } else if (what == "cvt") {
            bool from_float;
            one.code = Code::cvt;
            one.to = place(rest[0]);
            type(name[2], one.from_bytes, one.from_signed, from_float);
            type(name[1], one.bytes, one.is_signed, one.is_float);
            fake::must(name.size() == 3 && !from_float && !one.is_float, text.c_str());
            operands(1);
        } else if (what == "setp") {
            one.code = Code::set;
            // "u" at the end of an order of singles: also true where one is not a number.
            one.unordered = one.is_float && name[1].size() == 3;
            one.order = orders.at(name[1].substr(0, 2));
            fake::must(name.size() == 3, text.c_str());
            one.to = place(rest[0]);
            operands(1);
        } else if (what == "shfl") {
            fake::must(name[1] == "sync" && name[2] == "bfly", text.c_str());
            auto both = split(rest[0], "|");
            one.code = Code::shuffle;
            one.to = place(both[0]);
            one.to2 = both.size() > 1 ? place(both[1]) : -1;
            operands(1);
        } else if (what == "vote") {
            fake::must(name[1] == "sync" && name[2] == "any", text.c_str());
            one.code = Code::any;
            one.to = place(rest[0]);
            operands(1);
        } else if (plain.count(what)) {
            one.code = plain.at(what);
            if (what == "mul") {
                one.code = name[1] == "wide" ? Code::mul_wide : Code::mul;
                fake::must(name[1] == "wide" || name[1] == "lo", text.c_str());
            }
            fake::must(!one.is_float || what == "mov" || what == "selp", text.c_str());
            one.to = place(rest[0]);
            operands(1);
        } else {
            unknown(text);
        }
    }

    Kernel &kernel_;
    std::map<std::string, int> places_;
    std::map<std::string, size_t> symbols_, labels_;
    std::vector<std::pair<size_t, std::string>> branches_;
};

} // namespace

Kernel parse(const std::string &text, const std::string &name) {
    Kernel kernel;
    kernel.name = name;
    size_t start = text.find(".entry " + name + "(");
    if (start == std::string::npos) {
        unknown("a kernel " + name);
    }
    std::istringstream lines(text.substr(start));
    Parser parser(kernel);
    bool body = false;
    for (std::string line; std::getline(lines, line);) {
        line = line.substr(0, line.find("//"));
        size_t first = line.find_first_not_of(" \t");
        if (first == std::string::npos) {
            continue;
        }
        line = line.substr(first, line.find_last_not_of(" \t;") + 1 - first);
        if (!body) {
            body = line == "{";
            if (line.rfind(".param", 0) == 0) {
                parser.parameter(line);
            }
        } else if (line == "}") {
            break;
        } else if (line.rfind(".shared", 0) == 0) {
            parser.shared(line);
        } else if (line.back() == ':') {
            parser.label(line.substr(0, line.size() - 1));
        } else if (line[0] != '.') {
            parser.instruction(line);
        }
    }
    parser.end();
    return kernel;
}

} // namespace ptx
