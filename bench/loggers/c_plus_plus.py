from . import FIXTURES, Logger, fed, made

SOURCE = """
#include <fstream>
#include <iostream>
#include <string>
int main(int, char **args)
{
    std::ofstream log(args[1], std::ios::app);
    std::string line;
    int failed = 0;
    while (std::getline(std::cin, line)) {
        if (!line.empty() && line[0] == ':') {
            std::ofstream(line.substr(1)).put('x');
        } else if (!(log << line << std::endl)) {
            failed++;
            log.clear();
        }
    }
    return failed ? 1 : 0;
}
"""


def compiled(folder):
    (folder / "stream.cc").write_text(SOURCE)
    made("g++", "-O1", "-o", "FOLDER/stream", "FOLDER/stream.cc")(folder)
    made("g++", "-shared", "-fPIC", "-O1", "-o", "FOLDER/libcout.so", FIXTURES / "disk_cout.cc")(folder)
    made("g++", "-O1", "-o", "FOLDER/cout", FIXTURES / "disk_cout_main.cc", "FOLDER/libcout.so")(folder)


LOGGERS = [
    Logger("C++, std::ofstream", "operator<< and std::endl", ("g++",), lambda o: fed(o, [o.data / "stream", o.log]), compiled),
    Logger("C++, std::cout >> log", "operator<< and std::endl", ("g++",), lambda o: fed(o, [o.data / "cout"], appends="1"), compiled),
]
