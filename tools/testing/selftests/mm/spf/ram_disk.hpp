/* SPDX-License-Identifier: GPL-2.0 */
/* A block device without a disk. */
#ifndef SPF_RAM_DISK_HPP
#define SPF_RAM_DISK_HPP

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "counters.hpp"
#include "mapping.hpp"

namespace spf {

/* What the usual number of pages has room on, and as many more. */
inline std::size_t usual_disk_size()
{
	return std::max<std::size_t>(64 << 20, 2 * usual_faults() * page_size());
}

/* A block device in memory, which nobody else has: a new zram device. */
class RamDisk {
public:
	explicit RamDisk(std::size_t bytes)
	{
		std::optional<std::string> id = read_file(control + "hot_add");

		if (!id)
			throw Skip("cannot add a zram device: not root, or no CONFIG_ZRAM");
		number_ = std::to_string(std::stoi(*id));
		int error = write_file("/sys/block/zram" + number_ + "/disksize",
				       std::to_string(bytes));

		if (error)
			remove();
		expect(!error, "setting the size of zram%s: %s", number_.c_str(), strerror(error));
	}
	~RamDisk() { remove(); }
	RamDisk(const RamDisk &) = delete;
	RamDisk &operator=(const RamDisk &) = delete;

	std::string path() const { return "/dev/zram" + number_; }

private:
	void remove() const { write_file(control + "hot_remove", number_); }

	static inline const std::string control = "/sys/class/zram-control/";
	std::string number_;
};

} // namespace spf

#endif /* SPF_RAM_DISK_HPP */
